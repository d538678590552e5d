use kube::core::Status;

use super::wishes::Wish;
use super::*;
use crate::status::Reports;

fn key(kind: Kind, index: usize) -> Key {
    Key { kind, namespace: "shop".to_owned(), name: format!("{index:03}") }
}

fn wish(byte: u8) -> Wish {
    Wish { reports: Vec::new(), digest: Some([byte; 32]) }
}

/// About every object.
fn complete() -> Wishes {
    let mut wishes = Wishes::default();
    wishes.follow(&Reports::default(), &Reports::default(), true);
    wishes
}

fn unsaid(kinds: &[Kind], each: usize) -> Wishes {
    let mut wishes = complete();
    for key in kinds.iter().flat_map(|kind| (0..each).map(|index| key(*kind, index))) {
        wishes.set(&key, Some(wish(1)));
    }
    wishes
}

/// What is chosen while no object says anything.
fn choose(wishes: &mut Wishes, past: &Past) -> (Vec<Turn>, Option<Instant>) {
    wishes.choose(&BTreeMap::new(), &mut BTreeSet::new(), past)
}

fn chosen(wishes: &mut Wishes, past: &Past) -> Vec<Key> {
    choose(wishes, past).0.into_iter().map(|turn| turn.key).collect()
}

fn refused(code: u16) -> Error {
    Error::Api(Box::new(Status { code, ..Status::default() }))
}

#[test]
fn objects_that_fail_keep_no_other_waiting() {
    let (mut wishes, now) = (unsaid(&[Kind::AuthorizationPolicy, Kind::HttpRoute], 200), Instant::now());
    let mut past = Past::default();
    let mut tried = 0;
    loop {
        let turns = chosen(&mut wishes, &past);
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
    let (mut wishes, now) = (unsaid(&[Kind::AuthorizationPolicy, Kind::HttpRoute], 20), Instant::now());
    let mut past = Past::default();
    past.fail(key(Kind::AuthorizationPolicy, 0), &refused(403), now);
    let turns = chosen(&mut wishes, &past);
    assert!(turns.len() == limits::STATUS_WRITES && turns.iter().all(|key| key.kind == Kind::HttpRoute));
    let (_, next) = choose(&mut wishes, &past);
    assert_eq!(next, Some(now + limits::STATUS_RETRY));
    past.forget(now + limits::STATUS_RETRY);
    assert_eq!(chosen(&mut wishes, &past)[0].kind, Kind::AuthorizationPolicy);

    past.fail(key(Kind::HttpRoute, 0), &refused(429), now);
    assert!(chosen(&mut wishes, &past).is_empty());
    past.forget(now + limits::STATUS_INTERVAL);
    past.writing.extend((0..limits::STATUS_WRITES).map(|index| key(Kind::HttpRoute, index)));
    assert!(chosen(&mut wishes, &past).is_empty(), "more are written at once than may be");
}

#[test]
fn what_cannot_be_said_any_better_is_left_until_it_or_the_object_changes() {
    let mut wishes = unsaid(&[Kind::HttpRoute], 1);
    let own = key(Kind::HttpRoute, 0);
    let mut past = Past::default();
    past.done.insert(own.clone(), (Some([1; 32]), None));
    assert!(chosen(&mut wishes, &past).is_empty());
    let said = BTreeMap::from([(own.clone(), [2; 32])]);
    let mut changed = BTreeSet::from([own.clone()]);
    assert_eq!(wishes.choose(&said, &mut changed, &past).0.len(), 1, "somebody has changed its status");
    assert!(changed.is_empty());
    wishes.set(&own, Some(wish(3)));
    assert_eq!(chosen(&mut wishes, &past), std::slice::from_ref(&own));
}

#[test]
fn what_says_too_much_is_stale_once_everything_is_known() {
    let (own, past) = (key(Kind::HttpRoute, 0), Past::default());
    let said = BTreeMap::from([(own.clone(), [2; 32])]);
    let (mut wishes, mut changed) = (Wishes::default(), BTreeSet::from([own.clone()]));
    assert!(wishes.choose(&said, &mut changed, &past).0.is_empty());
    wishes.follow(&Reports::default(), &Reports::default(), true);
    assert_eq!(wishes.choose(&said, &mut changed, &past).0[0].key, own);
}

#[test]
fn what_says_what_it_should_is_looked_at_again_when_either_changes() {
    let (own, past) = (key(Kind::HttpRoute, 0), Past::default());
    let mut wishes = unsaid(&[Kind::HttpRoute], 1);
    let look = |wishes: &mut Wishes, said: u8, changes: bool| {
        let said = BTreeMap::from([(own.clone(), [said; 32])]);
        let mut changed = BTreeSet::from_iter(changes.then(|| own.clone()));
        wishes.choose(&said, &mut changed, &past).0.len()
    };
    assert_eq!(look(&mut wishes, 1, true), 0);
    assert_eq!(look(&mut wishes, 2, true), 1, "somebody has overwritten it");
    assert_eq!(look(&mut wishes, 1, true), 0);
    wishes.set(&own, Some(wish(2)));
    assert_eq!(look(&mut wishes, 1, false), 1, "something else is wished for");
    wishes.set(&own, None);
    assert_eq!(look(&mut wishes, 1, false), 1, "nothing is wished for any more");
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
            let (turns, next) = choose(&mut wishes, &past);
            now = if turns.is_empty() { next.unwrap() } else { now };
            for turn in turns {
                if turn.key == good {
                    wishes.set(&good, None);
                } else {
                    past.fail(turn.key, &refuse(), now);
                }
            }
        }
        assert!(!wishes.contains(&good), "{}: one that can be written never had its turn", refuse());
    }
}

#[tokio::test]
async fn what_is_not_there_is_asked_for_once_in_a_while() {
    let client = crate::api::stage::client(|_, _, _| std::future::ready(crate::api::stage::refusal(404)));
    let writer = Writer { client, answers: Arc::default(), troubles: Troubles::default() };
    let mut wishes = unsaid(&[Kind::HttpRoute], 1);
    let (own, mut past) = (key(Kind::HttpRoute, 0), Past::default());
    assert_eq!(writer.write(&own, &[]).await.unwrap(), Outcome::Gone, "its kind is not followed");
    writer.answers.serve(Kind::HttpRoute, "v1");
    let outcome = writer.write(&own, &[]).await;
    assert_eq!(*outcome.as_ref().unwrap(), Outcome::Gone);
    writer.note((own.clone(), (None, None), outcome), &mut past);
    past.until.clear();
    let (turns, next) = choose(&mut wishes, &past);
    assert!(turns.is_empty(), "it is asked for at once again");
    assert!(next.unwrap() > Instant::now() + limits::STATUS_RETRY / 2);
    past.keep(&Wishes::default());
    assert_eq!(chosen(&mut wishes, &past), [own], "one that was made anew waits for what was before it");
}
