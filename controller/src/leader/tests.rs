use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::Value as Json;
use tokio::task::JoinSet;

use super::*;
use crate::api::stage::{self, Answer, Objects, refusal};

fn candidate() -> Candidate {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    Candidate::new(Client::try_from(config).unwrap(), "weft-system", Troubles::default())
}

fn word(holder: &str, beat: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(4),
        // Years from ours: nobody's clock counts.
        renew_time: Some(MicroTime(Timestamp::from_second(beat).unwrap())),
        ..LeaseSpec::default()
    }
}

#[tokio::test]
async fn a_holder_is_silent_when_its_word_has_not_changed_for_as_long_as_it_was_good_for() {
    let (mut candidate, begin) = (candidate(), Instant::now());
    let mut silent = |word: &LeaseSpec, seconds| candidate.is_silent(word, begin + Duration::from_secs(seconds));
    assert!(!silent(&word("other", 1), 0), "a word that was just heard first");
    assert!(!silent(&word("other", 1), 14));
    assert!(!silent(&word("other", 2), 14), "it has spoken");
    assert!(!silent(&word("third", 2), 28), "another holds it by now");
    assert!(!silent(&word("third", 2), 42));
    assert!(silent(&word("third", 2), 43));
}

#[tokio::test]
async fn a_transition_is_counted_when_the_holder_is_another() {
    let candidate = candidate();
    let taken = candidate.word(Some(&word("other", 1)));
    assert_eq!(taken.lease_transitions, Some(5));
    let renewed = candidate.word(Some(&taken));
    assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(5), &taken.acquire_time));
    assert_eq!(candidate.word(None).lease_transitions, Some(0));
}

#[test]
fn who_led_serves_agents_until_it_sees_another() {
    let mut standing = Standing::default();
    assert!(!standing.turn(false));
    assert!(standing.turn(true));
    assert_eq!(standing, ALONE);
    assert!(standing.turn(false), "statuses are no longer its own to write");
    assert_eq!(standing, Standing { leads: false, serves: true });
}

/// How the API server takes the next writes of the Lease.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Good,
    /// It takes them, and answers after so many milliseconds.
    Late(u64),
    Broken,
    Silent,
}

struct Election {
    lease: Objects,
    mood: Arc<Mutex<Mood>>,
    standing: watch::Receiver<Standing>,
    stop: CancellationToken,
    running: JoinSet<anyhow::Result<()>>,
}

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/weft-system/leases/weft-controller";

impl Election {
    fn begin() -> Self {
        let (lease, mood) = (Objects::default(), Arc::new(Mutex::new(Mood::Good)));
        let (objects, asked) = (lease.clone(), Arc::clone(&mood));
        let client =
            stage::client(move |method, path, sent| answer(objects.clone(), Arc::clone(&asked), method, path, sent));
        let candidate = Candidate::new(client, "weft-system", Troubles::default());
        let ((sender, standing), stop) = (watch::channel(Standing::default()), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(candidate.run(sender, stop.clone()));
        Self { lease, mood, standing, stop, running }
    }

    fn become_of(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    async fn until(&mut self, leads: bool) -> Standing {
        *self.standing.wait_for(|standing| standing.leads == leads).await.unwrap()
    }

    fn spec(&self) -> Json {
        self.lease.locked()[PATH]["spec"].clone()
    }

    async fn ended(mut self) -> anyhow::Result<()> {
        self.running.join_next().await.unwrap().unwrap()
    }
}

async fn answer(lease: Objects, mood: Arc<Mutex<Mood>>, method: Method, path: String, sent: Json) -> Answer {
    let now = *mood.lock().unwrap();
    let writes = method != Method::GET;
    match now {
        Mood::Broken => return refusal(500),
        Mood::Silent => std::future::pending().await,
        Mood::Good | Mood::Late(_) => {}
    }
    let answer = lease.answer(&method, &path, sent);
    if let (true, Mood::Late(milliseconds)) = (writes, now) {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        pause::until(Some(end.into_std())).await;
    }
    answer
}

#[tokio::test(start_paused = true)]
async fn a_holder_leads_no_longer_than_its_word_is_good_also_while_it_waits_for_an_answer() {
    let mut election = Election::begin();
    // Taken at once, answered when the attempt is all but over; then one that fails, and one that hangs.
    election.become_of(Mood::Late(4_900));
    let taken = Instant::now();
    assert_eq!(election.until(true).await, ALONE);
    assert_eq!(taken.elapsed(), Duration::from_millis(4_900));
    election.become_of(Mood::Broken);
    pause::until(Some((taken + Duration::from_secs(6)).into_std())).await;
    election.become_of(Mood::Silent);
    let standing = election.until(false).await;
    assert_eq!(standing, Standing { leads: false, serves: true }, "what stands goes on");
    assert!(taken.elapsed() <= limits::LEADERSHIP * 2 / 3, "it led for {:?}", taken.elapsed());

    election.become_of(Mood::Good);
    assert_eq!(election.until(true).await, ALONE, "nobody else had it meanwhile");
    let renewed = election.spec();
    election.stop.cancel();
    election.standing.wait_for(|standing| *standing == Standing::default()).await.unwrap();
    let lease = election.lease.clone();
    election.ended().await.unwrap();
    assert!(renewed["holderIdentity"].is_string());
    assert!(lease.locked()[PATH]["spec"]["holderIdentity"].is_null(), "it did not let go");
}

#[tokio::test(start_paused = true)]
async fn who_sees_another_in_its_place_ends() {
    let mut election = Election::begin();
    election.until(true).await;
    election.lease.locked().get_mut(PATH).unwrap()["spec"]["holderIdentity"] = "other".into();
    let ended = election.ended().await.unwrap_err().to_string();
    assert!(ended.contains("another controller leads now"), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn another_takes_over_when_the_holder_has_been_silent_and_not_before() {
    let mut election = Election::begin();
    election.lease.locked().insert(PATH.to_owned(), serde_json::json!({"spec": word("other", 1), "metadata": {}}));
    let begun = Instant::now();
    assert_eq!(election.until(true).await, ALONE);
    assert!(begun.elapsed() >= limits::LEADERSHIP, "it took what was another's for {:?}", begun.elapsed());
    assert_eq!(election.spec()["leaseTransitions"], 5);
}

#[tokio::test(start_paused = true)]
async fn nobody_leads_on_while_it_waits() {
    let (standing, mut seen) = watch::channel(ALONE);
    let seat = Seat { standing: &standing, identity: String::new() };
    let (begun, second) = (Instant::now(), Duration::from_secs(1));
    let work = pause::until(Some((begun + second * 8).into_std()));
    let look = async {
        tokio::time::timeout(second * 10, seen.changed()).await.expect("it leads on").unwrap();
        (begun.elapsed(), *seen.borrow())
    };
    let ((), (when, standing)) = tokio::join!(seat.during(Some(begun + second * 3), work), look);
    assert_eq!((when, standing.leads, begun.elapsed()), (second * 3, false, second * 8));
}
