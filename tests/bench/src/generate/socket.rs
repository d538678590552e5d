//! A socket, as every load opens it.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::report::{Failure, Step};

/// Connects, without Nagle's delay.
pub(super) async fn connect(to: SocketAddr) -> Result<TcpStream, Failure> {
    let stream = TcpStream::connect(to).await.map_err(Failure::of_system(Step::Connect))?;
    stream.set_nodelay(true).map_err(Failure::of_system(Step::Connect))?;
    Ok(stream)
}
