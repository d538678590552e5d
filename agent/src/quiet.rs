//! A future that is polled when it was woken itself, and not whenever its task is polled for something else.
//!
//! A connection waits for its end all its life and is polled several times for each request; asking every token each time
//! whether it was cancelled costs more than parsing the request. Invariant: a wake-up is never lost, because the task's
//! waker is noted before anybody looks whether the bell has rung.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

pub struct Quiet<F> {
    inner: Pin<Box<F>>,
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

/// Waits for `inner` at no cost as long as nothing wakes it.
pub fn quietly<F: Future>(inner: F) -> Quiet<F> {
    // Rung once: nobody wakes a future that was never polled.
    let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::default() });
    Quiet { inner: Box::pin(inner), waker: Waker::from(Arc::clone(&bell)), bell }
}

impl<F: Future> Future for Quiet<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        this.bell.tell(task.waker());
        if !this.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        this.inner.as_mut().poll(&mut Context::from_waker(&this.waker))
    }
}

impl Bell {
    fn tell(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn a_token_that_is_cancelled_later_is_noticed_and_polled_only_then() {
        let token = CancellationToken::new();
        let polls = Cell::new(0);
        let mut waiting = pin!(token.cancelled());
        let mut quiet = quietly(poll_fn(|task| {
            polls.set(polls.get() + 1);
            waiting.as_mut().poll(task)
        }));
        for _ in 0..10 {
            assert_eq!(polled_once(&mut quiet).await, Poll::Pending);
        }
        assert_eq!(polls.get(), 1);
        token.cancel();
        quiet.await;
        assert_eq!(polls.get(), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_polled_last() {
        let token = CancellationToken::new();
        let mut quiet = quietly(token.clone().cancelled_owned());
        assert_eq!(polled_once(&mut quiet).await, Poll::Pending);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(quiet);
        tokio::task::yield_now().await;
        token.cancel();
        assert!(tasks.join_next().await.unwrap().is_ok());
    }

    /// One poll, whatever comes of it.
    async fn polled_once(quiet: &mut Quiet<impl Future<Output = ()>>) -> Poll<()> {
        poll_fn(|task| Poll::Ready(Pin::new(&mut *quiet).poll(task))).await
    }
}
