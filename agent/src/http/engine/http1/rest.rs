//! The rest of a request whose answer has begun.
//!
//! It leaves by a task of its own: whoever gets the answer may read it only when all of the request is gone.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::outgoing::{Failure, Outgoing};
use crate::http::engine::with_causes;

/// What the answer's reader and the task know of each other.
#[derive(Default)]
pub struct Rest {
    state: RefCell<State>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
}

#[derive(Debug, Default, Clone)]
enum State {
    #[default]
    Leaving,
    HasLeft,
    /// The connection takes no more of it.
    GivenUp,
    /// Whoever sends it has failed: its answer is of no use to anybody.
    Failed(String),
    /// Nobody waits for it any more.
    Left,
}

impl Rest {
    pub fn begin(upload: Outgoing, connection: &Rc<RefCell<Connection>>, tasks: &TaskTracker) -> Rc<Self> {
        let rest = Rc::new(Self::default());
        tasks.spawn_local(carry(Rc::clone(&rest), upload, Rc::downgrade(connection)));
        rest
    }

    pub fn has_left(&self) -> bool {
        matches!(*self.state.borrow(), State::HasLeft)
    }

    /// Why the answer is not worth reading. The task is woken when that is found out.
    pub fn failure(&self, task: &Context<'_>) -> Option<String> {
        if let State::Failed(why) = &*self.state.borrow() {
            return Some(why.clone());
        }
        self.reader.set(Some(task.waker().clone()));
        None
    }

    /// Ends it, if it has not.
    pub fn leave(&self) {
        if !self.has_left() {
            self.state.replace(State::Left);
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }

    fn poll(
        &self,
        upload: &mut Outgoing,
        connection: &Weak<RefCell<Connection>>,
        task: &mut Context<'_>,
    ) -> Poll<State> {
        let (State::Leaving, Some(connection)) = (self.state.borrow().clone(), connection.upgrade()) else {
            return Poll::Ready(State::Left);
        };
        self.writer.set(Some(task.waker().clone()));
        upload.poll(&connection, task).map(|sent| match sent {
            Ok(()) => State::HasLeft,
            Err(Failure::Connection(_)) => State::GivenUp,
            Err(Failure::Body(error)) => State::Failed(with_causes(&error)),
        })
    }
}

async fn carry(rest: Rc<Rest>, mut upload: Outgoing, connection: Weak<RefCell<Connection>>) {
    let state = poll_fn(|task| rest.poll(&mut upload, &connection, task)).await;
    rest.state.replace(state);
    if let Some(reader) = rest.reader.take() {
        reader.wake();
    }
}
