//! Somewhere to make sockets: a thread in a network namespace and a cgroup folder of its own.
//!
//! A socket keeps the namespace and the cgroup of the thread that made it, so only its making happens
//! here; everything else is done by the test itself.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use socket2::{Domain, Protocol, Socket, Type};

/// Nothing in a namespace on this machine takes this long, even under emulation.
pub const SOON: Duration = Duration::from_secs(20);
/// How long is waited for something that must not happen.
pub const MOMENT: Duration = Duration::from_millis(300);

type Job = Box<dyn FnOnce() + Send>;

/// The thread and its namespace.
#[derive(Debug)]
pub struct Place {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    netns: Arc<File>,
}

impl Place {
    /// A new namespace with `lo` up.
    pub fn new(cgroup: Option<&Path>) -> Result<Self> {
        let place = Self::start(None, cgroup)?;
        place.run(|| crate::netlink::set_up("lo"))?;
        Ok(place)
    }

    /// The same namespace, another cgroup folder.
    pub fn beside(&self, cgroup: Option<&Path>) -> Result<Self> {
        Self::start(Some(Arc::clone(&self.netns)), cgroup)
    }

    fn start(netns: Option<Arc<File>>, cgroup: Option<&Path>) -> Result<Self> {
        let (jobs, orders) = sync_channel::<Job>(1);
        let (ready, opened) = sync_channel(1);
        let cgroup = cgroup.map(Path::to_owned);
        let thread = std::thread::spawn(move || {
            let entered = enter(netns, cgroup.as_deref());
            if ready.send(entered).is_ok() {
                work(&orders);
            }
        });
        let netns = opened.recv().map_err(|_| anyhow!("a thread ended before it began"))??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), netns })
    }

    /// Runs something there.
    ///
    /// # Panics
    ///
    /// If it panics there.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = sync_channel(1);
        let job = Box::new(move || {
            let _ = answer.send(job());
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "the thread of a place has ended");
        match answered.recv() {
            Ok(answer) => answer,
            Err(error) => panic!("what ran in a place panicked: {error}"),
        }
    }

    /// A socket.
    pub fn socket(&self, domain: Domain, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        self.run(move || Socket::new(domain, kind, Some(protocol)))
    }

    /// A TCP socket that fits the address.
    pub fn tcp(&self, like: SocketAddr) -> io::Result<Socket> {
        self.socket(Domain::for_address(like), Type::STREAM, Protocol::TCP)
    }

    /// A socket that listens at the address; port 0 for any.
    pub fn listen(&self, at: SocketAddr) -> Result<TcpListener> {
        let socket = self.tcp(at)?;
        if at.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&at.into()).with_context(|| format!("bind to {at}"))?;
        socket.listen(128)?;
        Ok(socket.into())
    }

    /// Connects, or fails soon.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.tcp(to)?;
        socket.connect_timeout(&to.into(), SOON)?;
        Ok(socket.into())
    }

    /// Connects from an address.
    pub fn connect_from(&self, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
        let socket = self.tcp(to)?;
        socket.bind(&from.into()).with_context(|| format!("bind to {from}"))?;
        socket.connect_timeout(&to.into(), SOON)?;
        Ok(socket.into())
    }

    /// Writes a setting of the namespace.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(name);
        let value = value.to_owned();
        let shown = format!("set {name} to {value}");
        self.run(move || fs::write(path, value)).context(shown)
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn enter(netns: Option<Arc<File>>, cgroup: Option<&Path>) -> Result<Arc<File>> {
    if let Some(cgroup) = cgroup {
        let threads = cgroup.join("cgroup.threads");
        fs::write(&threads, "0").with_context(|| format!("join {}", threads.display()))?;
    }
    if let Some(netns) = netns {
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
        return Ok(netns);
    }
    // SAFETY: only the network namespace of this thread changes; no descriptor changes its meaning.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("make a network namespace")?;
    Ok(Arc::new(File::open("/proc/thread-self/ns/net")?))
}

fn work(orders: &Receiver<Job>) {
    while let Ok(job) = orders.recv() {
        job();
    }
}

/// Waits until one of the descriptors can be read; its place in the list.
pub fn readable<'a>(descriptors: impl IntoIterator<Item = BorrowedFd<'a>>, within: Duration) -> Result<Option<usize>> {
    let mut watched: Vec<PollFd<'_>> =
        descriptors.into_iter().map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)).collect();
    let timeout = Timespec { tv_sec: within.as_secs().try_into()?, tv_nsec: within.subsec_nanos().into() };
    let count = rustix::io::retry_on_intr(|| poll(&mut watched, Some(&timeout)))?;
    Ok(if count == 0 { None } else { watched.iter().position(|watched| !watched.revents().is_empty()) })
}

/// The next connection, with the address that `accept()` says.
pub fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    readable([listener.as_fd()], SOON)?.context("no connection came")?;
    Ok(listener.accept()?)
}

/// Fails if a connection waits, or comes within a moment.
pub fn expect_nobody(listener: &TcpListener) -> Result<()> {
    match readable([listener.as_fd()], MOMENT)? {
        None => Ok(()),
        Some(_) => Err(anyhow!("a connection came that should not have")),
    }
}
