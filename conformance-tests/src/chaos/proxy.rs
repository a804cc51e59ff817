//! A TCP proxy that makes bad weather: delay, throttling, cuts, connections that go half-open.
//!
//! It lives on the tokio runtime that it is given, and keeps no bytes but those of one read for
//! each direction of a connection.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

const READ_BYTES: usize = 64 << 10;

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// How long each read waits before it is written.
    pub(crate) delay: Duration,
    /// Bytes a second, for each connection and direction.
    pub(crate) bytes_per_second: Option<u32>,
    /// Connections swallow whatever they are given, and will for as long as they live.
    pub(crate) half_open: bool,
    /// No new connection reaches anybody.
    pub(crate) refuses: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    weather: Weather,
    /// Connections of an earlier generation are cut.
    generation: u64,
    target: Option<SocketAddr>,
}

/// A proxy on a port of its own.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens; leads to `target`, once there is one.
    pub(crate) async fn start(target: Option<SocketAddr>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new(State { target, ..State::default() });
        let accepting = Handle::current().spawn(accept(listener, state.subscribe()));
        Ok(Self { address, state, accepting })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections elsewhere: a server came back on another port.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| state.target = Some(target));
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Cuts every connection, without a goodbye.
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: watch::Receiver<State>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, state.clone()));
    }
}

async fn carry(mut client: TcpStream, mut state: watch::Receiver<State>) {
    let born = *state.borrow_and_update();
    let Some(target) = born.target.filter(|_| !born.weather.refuses) else {
        return reset(&client);
    };
    let Ok(mut server) = TcpStream::connect(target).await else {
        return reset(&client);
    };
    for stream in [&client, &server] {
        drop(stream.set_nodelay(true));
    }
    let is_cut = {
        // Halves that are dropped without a word: a cut is no orderly end.
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pipe(from_client, to_server, state.clone());
        let down = pipe(from_server, to_client, state.clone());
        tokio::select! {
            () = async { tokio::join!(up, down); } => false,
            () = cut(&mut state, born.generation) => true,
        }
    };
    if is_cut {
        reset(&client);
        reset(&server);
    }
}

/// Makes the peer of a connection see a reset once it is dropped.
fn reset(stream: &TcpStream) {
    drop(stream.set_zero_linger());
}

/// Resolves once connections of `generation` are to be cut.
async fn cut(state: &mut watch::Receiver<State>, generation: u64) {
    drop(state.wait_for(|state| state.generation != generation).await);
}

async fn pipe(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, state: watch::Receiver<State>) {
    let mut buffer = vec![0; READ_BYTES];
    let mut is_dead = false;
    loop {
        let read = match from.read(&mut buffer).await {
            Ok(read) if read > 0 => read,
            _ => break,
        };
        let weather = state.borrow().weather;
        is_dead |= weather.half_open;
        if is_dead {
            continue;
        }
        let throttled = weather.bytes_per_second.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(read as f64 / f64::from(rate.max(1)))
        });
        let pause = weather.delay + throttled;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    if is_dead {
        // The other side of a half-open connection learns nothing.
        std::future::pending::<()>().await;
    }
    drop(to.shutdown().await);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says back what it hears, and a proxy before it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    drop(tokio::io::copy(&mut from, &mut to).await);
                });
            }
        });
        Proxy::start(Some(target)).await.unwrap()
    }

    async fn says_back(stream: &mut TcpStream, length: usize) -> bool {
        let body: Vec<u8> = (0..length).map(|index| index as u8).collect();
        let (mut from, mut to) = stream.split();
        let mut back = vec![0; length];
        let (sent, heard) = tokio::join!(to.write_all(&body), from.read_exact(&mut back));
        sent.is_ok() && heard.is_ok() && back == body
    }

    #[tokio::test]
    async fn in_clear_and_in_slow_weather_all_bytes_come_through() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(says_back(&mut stream, 300_000).await);
        let delay = Duration::from_millis(3);
        let bytes_per_second = Some(40_000_000);
        proxy.set_weather(Weather { delay, bytes_per_second, ..Weather::default() });
        assert!(says_back(&mut stream, 300_000).await);
    }

    #[tokio::test]
    async fn a_cut_ends_every_connection_and_lets_new_ones_through() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(says_back(&mut stream, 10).await);
        proxy.cut();
        let error = stream.read(&mut [0]).await.expect_err("a reset, not an end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut again = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(says_back(&mut again, 10).await);
    }

    #[tokio::test]
    async fn who_is_refused_reaches_nobody_and_a_new_target_is_reached() {
        let (proxy, other) = (echo().await, echo().await);
        proxy.set_weather(Weather { refuses: true, ..Weather::default() });
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(!says_back(&mut stream, 10).await);
        proxy.set_weather(Weather::default());
        proxy.lead_to(other.address());
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(says_back(&mut stream, 10).await);
        // It leads through the other one now.
        other.cut();
        assert!(!says_back(&mut stream, 10).await);
    }

    #[tokio::test]
    async fn a_half_open_connection_takes_everything_and_says_nothing() {
        let proxy = echo().await;
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(says_back(&mut stream, 10).await);
        proxy.set_weather(Weather { half_open: true, ..Weather::default() });
        stream.write_all(&[7; 10_000_000]).await.expect("far more than anything buffers");
        let heard = tokio::time::timeout(Duration::from_millis(200), stream.read(&mut [0])).await;
        assert!(heard.is_err(), "nothing comes back, and no end either");
        proxy.cut();
        stream.read(&mut [0]).await.expect_err("even such a connection is cut");
    }
}
