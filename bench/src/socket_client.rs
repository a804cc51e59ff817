//! A WebSocket client that costs two system calls a round trip, so that the server is measured.
//!
//! Frames are masked with zeros, which is as good as not masked; answers are told apart by their
//! length alone, and every one of them must be as long as the first.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::Result;
use crate::keys::Random;

const BUFFER_BYTES: usize = 16 << 10;
const PING: u8 = 9;
const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];
const PATH_DIGITS: usize = 10;
const REQUEST: &str = r#"{"id":"00000001","op":"get","path":"users/0000000000/name"}"#;

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// One request as a frame; the digits of its path are written over.
    request: Vec<u8>,
    digits_at: usize,
    out: Vec<u8>,
    buffer: Vec<u8>,
    filled: usize,
    /// Length of every answer, once one was seen.
    answer_bytes: Option<usize>,
}

impl Connection {
    /// Connects and upgrades.
    pub(crate) fn open(port: u16) -> Result<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        let upgrade = format!(
            "GET /db HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes())?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into());
        }
        let mut request = vec![0x81, 0x80 | u8::try_from(REQUEST.len())?, 0, 0, 0, 0];
        let digits_at = request.len() + REQUEST.find("0000000000").ok_or("no digits")?;
        request.extend_from_slice(REQUEST.as_bytes());
        Ok(Self {
            stream,
            request,
            digits_at,
            out: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            filled: 0,
            answer_bytes: None,
        })
    }

    /// Sends some gets of random keys with one write.
    pub(crate) fn send(&mut self, count: usize, keys: usize, random: &mut Random) -> Result<()> {
        self.out.clear();
        for _ in 0..count {
            let mut number = random.below(keys);
            let digits = self.request.get_mut(self.digits_at..self.digits_at + PATH_DIGITS);
            for digit in digits.unwrap_or_default().iter_mut().rev() {
                *digit = b'0' + u8::try_from(number % 10)?;
                number /= 10;
            }
            self.out.extend_from_slice(&self.request);
        }
        Ok(self.stream.write_all(&self.out)?)
    }

    /// Sends texts with one write.
    pub(crate) fn send_texts(&mut self, texts: &[String]) -> Result<()> {
        self.out.clear();
        for text in texts {
            self.out.push(0x81);
            match u8::try_from(text.len()) {
                Ok(short) if short < 126 => self.out.push(0x80 | short),
                _ => {
                    self.out.push(0x80 | 126);
                    self.out.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
                }
            }
            self.out.extend_from_slice(&[0; 4]);
            self.out.extend_from_slice(text.as_bytes());
        }
        Ok(self.stream.write_all(&self.out)?)
    }

    /// Reads once; answers how many answers that completed.
    pub(crate) fn receive(&mut self) -> Result<usize> {
        let mut answer_bytes = self.answer_bytes;
        let answers = self.receive_texts(&mut |body| check(&mut answer_bytes, body));
        self.answer_bytes = answer_bytes;
        answers
    }

    /// Reads once; answers how many texts that completed, each of which was shown to `visit`.
    pub(crate) fn receive_texts(
        &mut self,
        visit: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<usize> {
        let space = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let read = self.stream.read(space)?;
        if read == 0 {
            return Err("the server closed a connection".into());
        }
        self.filled += read;
        let mut answers = 0;
        let mut at = 0;
        while let Some(frame) = Frame::first(self.buffer.get(at..self.filled).unwrap_or_default()) {
            if frame.opcode == 1 {
                let body = self.buffer.get(at + frame.head_bytes..at + frame.bytes);
                visit(body.unwrap_or_default())?;
                answers += 1;
            } else if frame.opcode == PING {
                // Empty, as the server's pings are.
                self.stream.write_all(&PONG)?;
            }
            at += frame.bytes;
        }
        self.buffer.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(answers)
    }
}

fn check(answer_bytes: &mut Option<usize>, answer: &[u8]) -> Result<()> {
    match *answer_bytes {
        Some(bytes) if bytes == answer.len() => Ok(()),
        None if find(answer, b"\"ok\":true,\"data\":\"") => {
            *answer_bytes = Some(answer.len());
            Ok(())
        }
        _ => Err(format!("an odd answer: {}", String::from_utf8_lossy(answer)).into()),
    }
}

fn find(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

struct Frame {
    opcode: u8,
    head_bytes: usize,
    bytes: usize,
}

impl Frame {
    /// The first frame of a buffer, if it is whole.
    fn first(buffer: &[u8]) -> Option<Self> {
        let (head, rest) = buffer.split_first_chunk::<2>()?;
        let [first, length] = *head;
        let (head_bytes, body_bytes) = match length & 0x7F {
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
            short => (2, usize::from(short)),
        };
        let bytes = head_bytes + body_bytes;
        let frame = Self { opcode: first & 0x0F, head_bytes, bytes };
        (buffer.len() >= bytes).then_some(frame)
    }
}
