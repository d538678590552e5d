//! A generator that hides stalls or errors would make every table a lie: against servers that misbehave on purpose.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use weft_bench::generate::{self, Load, RoundTrip, Short};

/// How long the server does nothing.
const STALL: Duration = Duration::from_millis(200);

/// Serves one connection after the other, on a thread that ends with the test program.
fn serve(mut each: impl FnMut(usize, TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            each(number, stream.unwrap());
        }
    });
    address
}

/// Does nothing for a while: nobody ever sends.
fn stall() {
    let (_sender, receiver) = mpsc::sync_channel::<()>(0);
    receiver.recv_timeout(STALL).ok();
}

fn echo_once(stream: &mut TcpStream) {
    let mut bytes = [0; 64];
    if stream.read_exact(&mut bytes).is_ok() {
        stream.write_all(&bytes).ok();
    }
}

#[test]
fn a_stall_lengthens_every_exchange_that_should_have_begun_meanwhile() {
    let to = serve(|number, mut stream| {
        if number == 100 {
            stall();
        }
        echo_once(&mut stream);
    });
    let report = generate::run(&Load::Connect(Short::open(to, 500.0, 1.0))).unwrap();
    assert_eq!((report.completed, report.failed()), (500, 0), "{:?}", report.errors);
    // 100 of 500 were planned within the stall; half of these had to wait for its half or more.
    assert!(report.answer.quantile(910) >= STALL / 2, "p91 is {:?}", report.answer.quantile(910));
}

#[test]
fn refusals_are_counted_and_not_tried_again() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    drop(listener);
    let report = generate::run(&Load::Connect(Short::open(to, 200.0, 0.5))).unwrap();
    assert_eq!(report.completed, 0);
    assert_eq!(report.errors.get("Connect/ConnectionRefused"), Some(&100), "{:?}", report.errors);
}

#[test]
fn a_short_answer_and_a_changed_one_are_errors() {
    let to = serve(|number, mut stream| match number % 2 {
        0 => drop(stream.read(&mut [0; 64])),
        _ => stream.write_all(&[0xff; 64]).unwrap_or_default(),
    });
    let report = generate::run(&Load::Connect(Short::one_by_one(to, 10, 10.0))).unwrap();
    assert_eq!((report.completed, report.failed()), (0, 10), "{:?}", report.errors);
}

#[test]
fn connections_that_stay_tell_when_the_server_leaves() {
    let to = serve(|_, mut stream| {
        (0..20).for_each(|_| echo_once(&mut stream));
    });
    let load = RoundTrip { bytes: 64, warm_up: 0.0, ..RoundTrip::closed(to, 1, 10.0) };
    let report = generate::run(&Load::RoundTrip(load)).unwrap();
    assert_eq!((report.completed, report.failed()), (20, 1), "{:?}", report.errors);
}
