use kube::core::Status;

use super::*;

fn key(kind: Kind, index: usize) -> Key {
    Key { kind, namespace: "shop".to_owned(), name: format!("{index:03}") }
}

fn unsaid(kinds: &[Kind], each: usize) -> BTreeMap<Key, Wish> {
    let wish = Wish { reports: Vec::new(), digest: Some([1; 32]) };
    let keys = kinds.iter().flat_map(|kind| (0..each).map(|index| key(*kind, index)));
    keys.map(|key| (key, wish.clone())).collect()
}

fn chosen(wishes: &BTreeMap<Key, Wish>, past: &Past) -> Vec<Key> {
    choose(wishes, &BTreeMap::new(), true, past).0.into_iter().map(|turn| turn.key).collect()
}

fn refused(code: u16) -> Error {
    Error::Api(Box::new(Status { code, ..Status::default() }))
}

#[test]
fn objects_that_fail_keep_no_other_waiting() {
    let (wishes, now) = (unsaid(&[Kind::AuthorizationPolicy, Kind::HttpRoute], 200), Instant::now());
    let mut past = Past::default();
    let mut tried = 0;
    loop {
        let turns = chosen(&wishes, &past);
        assert!(turns.len() <= limits::STATUS_WRITES);
        if turns.iter().any(|key| key.kind == Kind::HttpRoute) {
            break;
        }
        assert!(!turns.is_empty(), "the routes wait for policies that cannot be written");
        tried += turns.len();
        for key in turns {
            past.fail(key, &refused(422), now);
        }
    }
    assert!(tried >= 200 - limits::STATUS_WRITES && past.rest.is_none());
}

#[test]
fn a_kind_that_may_not_be_written_rests_alone_and_an_api_server_that_is_away_is_left_alone() {
    let (wishes, now) = (unsaid(&[Kind::AuthorizationPolicy, Kind::HttpRoute], 20), Instant::now());
    let mut past = Past::default();
    past.fail(key(Kind::AuthorizationPolicy, 0), &refused(403), now);
    let turns = chosen(&wishes, &past);
    assert!(turns.len() == limits::STATUS_WRITES && turns.iter().all(|key| key.kind == Kind::HttpRoute));
    let (_, next) = choose(&wishes, &BTreeMap::new(), true, &past);
    assert_eq!(next, Some(now + limits::STATUS_RETRY));
    past.forget(now + limits::STATUS_RETRY);
    assert_eq!(chosen(&wishes, &past)[0].kind, Kind::AuthorizationPolicy);

    past.fail(key(Kind::HttpRoute, 0), &refused(429), now);
    assert!(chosen(&wishes, &past).is_empty());
    past.forget(now + limits::STATUS_INTERVAL);
    past.writing.extend((0..limits::STATUS_WRITES).map(|index| key(Kind::HttpRoute, index)));
    assert!(chosen(&wishes, &past).is_empty(), "more are written at once than may be");
}

#[test]
fn what_cannot_be_said_any_better_is_left_until_it_or_the_object_changes() {
    let mut wishes = unsaid(&[Kind::HttpRoute], 1);
    let own = key(Kind::HttpRoute, 0);
    let mut past = Past::default();
    past.done.insert(own.clone(), (Some([1; 32]), None));
    assert!(chosen(&wishes, &past).is_empty());
    let said = BTreeMap::from([(own.clone(), [2; 32])]);
    assert_eq!(choose(&wishes, &said, true, &past).0.len(), 1, "somebody has changed its status");
    wishes.insert(own.clone(), Wish { reports: Vec::new(), digest: Some([3; 32]) });
    assert_eq!(chosen(&wishes, &past), std::slice::from_ref(&own));
    // Nothing is wished of it: stale, once everything is known.
    assert!(choose(&BTreeMap::new(), &said, false, &Past::default()).0.is_empty());
    assert_eq!(choose(&BTreeMap::new(), &said, true, &Past::default()).0[0].key, own);
}

#[test]
fn objects_that_are_refused_starve_none_of_their_kind() {
    let away = || Error::Service("nobody answers".into());
    for refuse in [|| refused(403), || refused(422), || refused(429), away] {
        let mut wishes = unsaid(&[Kind::AuthorizationPolicy], 3 * limits::STATUS_WRITES);
        let (mut past, mut now) = (Past::default(), Instant::now());
        let good = key(Kind::AuthorizationPolicy, 3 * limits::STATUS_WRITES - 1);
        for _ in 0..20 {
            past.forget(now);
            let (turns, next) = choose(&wishes, &BTreeMap::new(), true, &past);
            now = if turns.is_empty() { next.unwrap() } else { now };
            for turn in turns {
                if turn.key == good {
                    wishes.remove(&good);
                } else {
                    past.fail(turn.key, &refuse(), now);
                }
            }
        }
        assert!(!wishes.contains_key(&good), "{}: one that can be written never had its turn", refuse());
    }
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once_in_a_while() {
    let client = crate::api::stage::client(|_, _, _| std::future::ready(crate::api::stage::refusal(404)));
    let writer = Writer { client, answers: Arc::default(), troubles: Troubles::default() };
    let wishes = unsaid(&[Kind::HttpRoute], 1);
    let (own, mut past) = (key(Kind::HttpRoute, 0), Past::default());
    assert_eq!(writer.write(&own, &[]).await.unwrap(), Outcome::Gone, "its kind is not followed");
    writer.answers.serve(Kind::HttpRoute, "v1");
    let outcome = writer.write(&own, &[]).await;
    assert_eq!(*outcome.as_ref().unwrap(), Outcome::Gone);
    writer.note((own.clone(), (None, None), outcome), &mut past);
    past.until.clear();
    let (turns, next) = choose(&wishes, &BTreeMap::new(), true, &past);
    assert!(turns.is_empty(), "it is asked for at once again");
    assert!(next.unwrap() > Instant::now() + limits::STATUS_RETRY / 2);
    past.keep(&BTreeMap::new());
    assert_eq!(chosen(&wishes, &past), [own], "one that was made anew waits for what was before it");
}
