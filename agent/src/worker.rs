//! One worker: a thread with a runtime of its own that accepts and carries its share of the connections.
//!
//! Workers share nothing that is locked for longer than a look: snapshots and credentials are read lock-free, load-balancing
//! state is each worker's own, but for the endpoints that clients keep. The heartbeat is written by the same loop that accepts, so a stuck
//! worker falls silent and the kernel stops choosing it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::balance::{Affinities, Balancer};
use crate::bpf::{Heartbeat, SocketFacts};
use crate::discovery::Snapshots;
use crate::error::Reason;
use crate::http::budgets::Budgets;
use crate::http::pool::Pool;
use crate::identity::Credentials;
use crate::node::pod::{Pod, Role};
use crate::telemetry::Telemetry;
use crate::{inbound, limits, outbound};

/// What a worker is told.
#[derive(Debug)]
pub enum Order {
    /// Accept on this listener until the pod is retired.
    Serve { pod: Arc<Pod>, role: Role, listener: std::net::TcpListener },
}

/// What every worker works with.
#[derive(Clone)]
pub struct Shared {
    pub snapshots: Snapshots,
    pub credentials: Credentials,
    pub telemetry: Telemetry,
    pub facts: SocketFacts,
    pub affinities: Arc<Affinities>,
    /// First phase of the shutdown: nothing new is accepted.
    pub stopping: CancellationToken,
    /// Second phase: what is left is cut.
    pub cutting: CancellationToken,
}

/// A worker as its own connections see it.
pub struct Worker {
    pub shared: Shared,
    pub balancer: RefCell<Balancer>,
    /// Upstream HTTP connections between two requests.
    pub pool: RefCell<Pool>,
    /// What retries of each Service port may still cost, on this worker.
    pub budgets: RefCell<Budgets>,
    /// Room for copies of requests.
    pub mirrors: Arc<Semaphore>,
    /// Room for answers that are read to their end for nobody.
    pub unread: Arc<Semaphore>,
    /// The tasks that drive HTTP connections. They end when nobody sends or answers on them any more.
    pub lines: TaskTracker,
    connections: TaskTracker,
    accepting: TaskTracker,
    load: Arc<Load>,
}

/// How many connections a worker carries, for status.
#[derive(Debug, Default)]
pub struct Load(AtomicU64);

impl Load {
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A started worker, as its owner sees it.
pub struct Handle {
    pub orders: mpsc::Sender<Order>,
    pub thread: JoinHandle<io::Result<()>>,
}

/// Starts the thread of worker `index`. It ends after `stopping`, when its last connection has ended or `cutting` is cancelled.
pub fn start(index: u32, shared: Shared, heartbeat: Heartbeat, load: Arc<Load>) -> io::Result<Handle> {
    let (orders, receiver) = mpsc::channel(limits::WORKER_ORDERS);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let balancer = RefCell::new(Balancer::sharing(Arc::clone(&shared.affinities)));
        let worker = Rc::new(Worker {
            shared,
            balancer,
            pool: RefCell::default(),
            budgets: RefCell::default(),
            mirrors: Arc::new(Semaphore::new(limits::MIRRORS)),
            unread: Arc::new(Semaphore::new(limits::UNREAD_ANSWERS)),
            lines: TaskTracker::new(),
            connections: TaskTracker::new(),
            accepting: TaskTracker::new(),
            load,
        });
        LocalSet::new().block_on(&runtime, run(worker, receiver, heartbeat));
        Ok(())
    })?;
    Ok(Handle { orders, thread })
}

async fn run(worker: Rc<Worker>, mut orders: mpsc::Receiver<Order>, heartbeat: Heartbeat) {
    let mut beat = interval(limits::HEARTBEAT_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = beat.tick() => {
                heartbeat.beat();
                worker.pool.borrow_mut().sweep(Instant::now());
                worker.load.0.store(worker.connections.len() as u64, Ordering::Relaxed);
            }
            () = worker.shared.stopping.cancelled() => break,
            order = orders.recv() => match order {
                Some(order) => worker.obey(order),
                None => break,
            },
        }
    }
    worker.accepting.close();
    worker.accepting.wait().await;
    worker.pool.borrow_mut().close();
    worker.connections.close();
    worker.lines.close();
    let ended = async {
        worker.connections.wait().await;
        worker.lines.wait().await;
    };
    tokio::select! {
        () = ended => {}
        () = worker.shared.cutting.cancelled() => {
            // Each connection sees the same token and ends by itself; the bound is for one that does not.
            let _ = timeout(limits::CUT_TIMEOUT, worker.connections.wait()).await;
        }
    }
}

impl Worker {
    /// Ready when a connection of `pod` has to end at once, with the reason.
    pub async fn cut(&self, pod: &Pod) -> Reason {
        tokio::select! {
            () = pod.gone.cancelled() => Reason::WorkloadGone,
            () = self.shared.cutting.cancelled() => Reason::Draining,
        }
    }

    /// Runs something that lives as long as a connection and ends by itself.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.connections.spawn_local(task);
    }

    fn obey(self: &Rc<Self>, order: Order) {
        match order {
            Order::Serve { pod, role, listener } => {
                let listener = match TcpListener::from_std(listener) {
                    Ok(listener) => listener,
                    Err(error) => {
                        tracing::error!(workload = %pod.uid, %error, "a listener cannot be served");
                        return;
                    }
                };
                self.accepting.spawn_local(accept_loop(Rc::clone(self), pod, role, listener));
            }
        }
    }
}

async fn accept_loop(worker: Rc<Worker>, pod: Arc<Pod>, role: Role, listener: TcpListener) {
    let retired = pod.retired.cancelled();
    let stopping = worker.shared.stopping.cancelled();
    tokio::pin!(retired, stopping);
    loop {
        tokio::select! {
            biased;
            () = &mut retired => return,
            () = &mut stopping => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(&worker, &pod, role, stream),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(workload = %pod.uid, %error, "accepting is paused");
                    sleep(limits::ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn admit(worker: &Rc<Worker>, pod: &Arc<Pod>, role: Role, stream: TcpStream) {
    // An accepted socket inherits no TCP_NODELAY from some kernels' dual-stack listeners.
    let _ = stream.set_nodelay(true);
    let place = pod.admit(role);
    let (worker, pod) = (Rc::clone(worker), Arc::clone(pod));
    let tracker = worker.connections.clone();
    match role {
        Role::Outbound => tracker.spawn_local(outbound::serve(worker, pod, place, stream)),
        Role::Inbound => tracker.spawn_local(inbound::serve(worker, pod, place, stream)),
    };
}

/// Errors of accept(2) that say something about the connection that was waiting, not about this process.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}
