//! Endpoints that failed so often in a row that they get nothing for a while.

use std::time::{Duration, Instant};

use crate::model::Ejection;

/// How one endpoint has done lately, as one worker has seen it.
#[derive(Debug, Default)]
pub struct Health {
    /// In a row, since the last good answer or the last ejection.
    failures: u32,
    /// In a row: each one takes twice as long as the one before.
    ejections: u32,
    until: Option<Instant>,
}

impl Health {
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A good answer. Once the endpoint has been back for as long as it was away at least, the past is forgotten.
    pub fn succeeded(&mut self, now: Instant, ejection: Ejection) {
        self.failures = 0;
        let back = self.until.map(|until| now.saturating_duration_since(until));
        if back.is_some_and(|back| back >= ejection.base_time) {
            (self.ejections, self.until) = (0, None);
        }
    }

    /// No answer, or one that says that the endpoint is broken. `room`: another one of its port may be ejected.
    /// Some: it is ejected from now on, for so long.
    pub fn failed(&mut self, now: Instant, ejection: Ejection, room: bool) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.failures < ejection.consecutive_failures || self.is_ejected(now) || !room {
            return None;
        }
        let away = time(ejection, self.ejections);
        self.until = Some(now + away);
        self.ejections = self.ejections.saturating_add(1);
        self.failures = 0;
        Some(away)
    }
}

fn time(ejection: Ejection, before: u32) -> Duration {
    let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
    ejection.base_time.saturating_mul(factor).min(ejection.maximum_time)
}

/// Whether one more of `count` endpoints may be ejected beside those that are: at least one may, unless it is the only one.
#[must_use]
pub const fn has_room(ejection: Ejection, ejected: usize, count: usize) -> bool {
    let share = count.saturating_mul(ejection.maximum_percent as usize) / 100;
    let most = if share == 0 { 1 } else { share };
    ejected < most && count > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Ejection = Ejection {
        consecutive_failures: 3,
        base_time: Duration::from_secs(10),
        maximum_time: Duration::from_secs(35),
        maximum_percent: 50,
    };

    fn fail(health: &mut Health, now: Instant, times: u32) {
        for _ in 0..times {
            health.failed(now, RULE, true);
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_a_good_answer_between_them_does_not() {
        let now = Instant::now();
        let mut health = Health::default();
        fail(&mut health, now, 2);
        health.succeeded(now, RULE);
        fail(&mut health, now, 2);
        assert!(!health.is_ejected(now));
        fail(&mut health, now, 1);
        assert!(health.is_ejected(now + Duration::from_secs(9)));
        assert!(!health.is_ejected(now + Duration::from_secs(10)));
    }

    #[test]
    fn each_ejection_takes_longer_until_the_endpoint_has_proven_itself() {
        let mut now = Instant::now();
        let mut health = Health::default();
        for seconds in [10, 20, 35, 35] {
            fail(&mut health, now, 3);
            let away = Duration::from_secs(seconds);
            assert!(health.is_ejected(now + away.mul_f64(0.99)), "{seconds}");
            assert!(!health.is_ejected(now + away), "{seconds}");
            now += away;
        }
        health.succeeded(now + RULE.base_time, RULE);
        now += RULE.base_time;
        fail(&mut health, now, 3);
        assert!(!health.is_ejected(now + RULE.base_time));
    }

    #[test]
    fn no_more_than_the_share_is_ejected_and_never_the_only_one() {
        let rows =
            [(0, 1, false), (0, 2, true), (1, 2, false), (1, 4, true), (2, 4, false), (0, 3, true), (1, 3, false)];
        for (ejected, count, room) in rows {
            assert_eq!(has_room(RULE, ejected, count), room, "{ejected} of {count}");
        }
        let tenth = Ejection { maximum_percent: 10, ..RULE };
        assert!(has_room(tenth, 0, 4) && !has_room(tenth, 1, 4), "one may always be ejected");
        let mut health = Health::default();
        health.failed(Instant::now(), Ejection { consecutive_failures: 1, ..RULE }, false);
        assert!(!health.is_ejected(Instant::now()));
    }
}
