//! Redis with `appendfsync always`, as installed on the machine, through a minimal client.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;
use crate::keys::{self, Random};
use crate::measure::{Achieved, Client, Load};

const START_MAX: Duration = Duration::from_secs(10);
const OK: &[u8] = b"+OK\r\n";
/// Keys sent at once while loading.
const LOAD_KEYS: usize = 1_000;

/// A server that ends with this value.
#[derive(Debug)]
pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts a server with all keys in it; `None` when none is installed.
    pub(crate) fn start(dir: &Path, keys: usize) -> Result<Option<Self>> {
        let dir = dir.join("redis");
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let port = free_port()?;
        let spawned = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--auto-aof-rewrite-percentage", "0", "--dir"])
            .arg(&dir)
            .stdout(Stdio::null())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let redis = Self { child, port };
        let begin = Instant::now();
        while redis.connect().is_err() {
            if begin.elapsed() > START_MAX {
                return Err("redis-server did not start".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        redis.load(keys)?;
        Ok(Some(redis))
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn load(&self, keys: usize) -> Result<()> {
        let mut stream = self.connect()?;
        let mut random = Random::new(1);
        let mut request = Vec::new();
        let mut answer = vec![0; OK.len() * LOAD_KEYS];
        for from in (0..keys).step_by(LOAD_KEYS) {
            request.clear();
            let count = LOAD_KEYS.min(keys - from);
            for number in from..from + count {
                push_set(&mut request, number, &mut random);
            }
            stream.write_all(&request)?;
            stream.read_exact(answer.get_mut(..OK.len() * count).unwrap_or_default())?;
        }
        Ok(())
    }

    /// Enters hashes of some fields.
    pub(crate) fn load_hashes(
        &self,
        hashes: usize,
        fields: usize,
        random: &mut Random,
    ) -> Result<()> {
        let mut stream = self.connect()?;
        let answer_of_one = format!(":{fields}\r\n");
        for from in (0..hashes).step_by(LOAD_KEYS) {
            let mut request = Vec::new();
            let count = LOAD_KEYS.min(hashes - from);
            for number in from..from + count {
                let key = format!("documents:{number:08}");
                write!(
                    request,
                    "*{}\r\n$4\r\nHSET\r\n${}\r\n{key}\r\n",
                    2 + 2 * fields,
                    key.len()
                )?;
                for field in 0..fields {
                    write!(request, "$6\r\nfield{field}\r\n$16\r\n{:016x}\r\n", random.next())?;
                }
            }
            stream.write_all(&request)?;
            let mut answer = vec![0; answer_of_one.len() * count];
            stream.read_exact(&mut answer)?;
        }
        Ok(())
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Keys of the server at a port.
    pub(crate) fn count_at(port: u16) -> Result<usize> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"*1\r\n$6\r\nDBSIZE\r\n")?;
        let mut answer = [0; 32];
        let length = stream.read(&mut answer)?;
        let text = std::str::from_utf8(answer.get(..length).unwrap_or_default())?;
        Ok(text.trim_start_matches(':').trim_end().parse()?)
    }

    /// Each client on a connection of its own, one SET at a time.
    pub(crate) fn round(&self, load: &Load, seed: u64, keys: usize) -> Result<Achieved> {
        load.run(seed, &|_| {
            let mut stream = self.connect()?;
            let mut request = Vec::new();
            Ok(Box::new(move |random: &mut Random| {
                request.clear();
                push_set(&mut request, random.below(keys), random);
                stream.write_all(&request)?;
                let mut answer = [0; OK.len()];
                stream.read_exact(&mut answer)?;
                if answer == *OK { Ok(()) } else { Err("redis refused a SET".into()) }
            }) as Client<'_>)
        })
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn push_set(request: &mut Vec<u8>, number: usize, random: &mut Random) {
    let key = keys::path_text(number);
    let value = keys::value_text(random);
    let text =
        format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len());
    request.extend_from_slice(text.as_bytes());
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
