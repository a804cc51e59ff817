//! [`Admin`]: what operators ask of a server: archives, digests, checks, compaction, pauses.
//!
//! Every call is one HTTP request of its own; nothing is retried.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, header};
use serde_json::Value;
use tokio::time::timeout;

use crate::error::{ClientError, ClientErrorKind};
use crate::http::{self, Connection};
use crate::options::ClientOptions;
use crate::target::Target;

/// How long a check or a compaction may take.
const WORK_MAX: Duration = Duration::from_secs(24 * 3600);

/// The operators' side of a server.
///
/// ```no_run
/// # async fn example() -> Result<(), trellis_client::ClientError> {
/// use trellis_client::{Admin, ClientOptions};
///
/// let admin = Admin::new("http://127.0.0.1:4400", ClientOptions::default())?;
/// let mut archive = admin.archive(None).await?;
/// while let Some(chunk) = archive.next_chunk().await? {
///     println!("{} bytes", chunk.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admin {
    target: Target,
    options: ClientOptions,
}

/// An archive on its way here. Memory is that of a few chunks. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Archive {
    body: Incoming,
    idle_max: Duration,
    /// Held so that the connection lives as long as the archive.
    _connection: Connection,
}

impl Archive {
    /// The next bytes, of any length; `None` at the end.
    ///
    /// # Errors
    /// `Unreachable` when the transfer broke off; the archive's own trailer tells as well.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = match timeout(self.idle_max, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) | Err(_) => {
                    let message = "the archive broke off; start it again";
                    return Err(ClientError::new(ClientErrorKind::Unreachable, message));
                }
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

impl Admin {
    /// The server at `http://host:port` or `ws://host:port/db`; nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` for a text that is no such address.
    pub fn new(url: &str, options: ClientOptions) -> Result<Self, ClientError> {
        Ok(Self { target: Target::parse(url)?, options })
    }

    /// Begins an archive of everything, or of what was committed after `since`.
    ///
    /// # Errors
    /// `Refused` with `not_found` when the journal no longer reaches back to `since`;
    /// `Unreachable`, `Deadline`.
    pub async fn archive(&self, since: Option<u64>) -> Result<Archive, ClientError> {
        let path = match since {
            Some(rev) => format!("archive?since={rev}"),
            None => "archive".to_owned(),
        };
        let (body, connection) = self.ask(Method::GET, &path, self.options.deadline).await?;
        Ok(Archive { body, idle_max: self.options.deadline, _connection: connection })
    }

    /// The content's digest: `{"digest","rev"}`.
    ///
    /// # Errors
    /// `Refused`, `Unreachable`, `Deadline`, `Protocol`.
    pub async fn digest(&self) -> Result<Value, ClientError> {
        self.json(Method::GET, "digest").await
    }

    /// The report of a check.
    ///
    /// # Errors
    /// As for [`Admin::digest`].
    pub async fn check(&self) -> Result<Value, ClientError> {
        self.json(Method::GET, "check").await
    }

    /// Has the server compact its files; answers what that came to.
    ///
    /// # Errors
    /// As for [`Admin::digest`].
    pub async fn compact(&self) -> Result<Value, ClientError> {
        self.json(Method::POST, "compact").await
    }

    /// Has the server refuse writes until [`Admin::resume`]; answers the rev that stands still.
    ///
    /// # Errors
    /// As for [`Admin::digest`].
    pub async fn pause(&self) -> Result<Value, ClientError> {
        self.json(Method::POST, "pause").await
    }

    /// Has the server take writes again.
    ///
    /// # Errors
    /// As for [`Admin::digest`].
    pub async fn resume(&self) -> Result<Value, ClientError> {
        self.json(Method::POST, "resume").await
    }

    /// Every index and how far it is built: `{"indexes":[..]}`.
    ///
    /// # Errors
    /// As for [`Admin::digest`].
    pub async fn indexes(&self) -> Result<Value, ClientError> {
        self.json(Method::GET, "indexes").await
    }

    /// Defines an index, `{"path","fields"}`, which is then built in the background; answers how
    /// far it is. One that is there already stays as it is.
    ///
    /// # Errors
    /// As for [`Admin::digest`]; `Refused` with `invalid` for a definition that makes no sense.
    pub async fn create_index(&self, definition: &Value) -> Result<Value, ClientError> {
        let body = Bytes::from(definition.to_string());
        let (body, _connection) =
            self.send(Method::POST, "indexes", body, self.options.deadline).await?;
        parse(&http::collect(body).await?)
    }

    /// Drops an index.
    ///
    /// # Errors
    /// As for [`Admin::digest`]; `Refused` with `not_found` when there is none with this id.
    pub async fn drop_index(&self, id: &str) -> Result<Value, ClientError> {
        if !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let message = "the id of an index consists of letters and digits";
            return Err(ClientError::new(ClientErrorKind::Invalid, message));
        }
        self.json(Method::DELETE, &format!("indexes/{id}")).await
    }

    /// Where replication stands.
    ///
    /// # Errors
    /// As for [`Admin::digest`]; `Refused` with `unsupported` when the server has no replication.
    pub async fn replication(&self) -> Result<Value, ClientError> {
        self.json(Method::GET, "repl").await
    }

    /// Has the server forget a follower.
    ///
    /// # Errors
    /// As for [`Admin::replication`]; `Refused` with `not_found` when there is no such slot.
    pub async fn drop_slot(&self, consumer: &str) -> Result<Value, ClientError> {
        self.json(Method::DELETE, &format!("repl/slots/{}", plain(consumer)?)).await
    }

    /// What the server's node wrote that was set aside before it was replaced.
    ///
    /// # Errors
    /// As for [`Admin::replication`].
    pub async fn set_asides(&self) -> Result<Value, ClientError> {
        self.json(Method::GET, "repl/set-asides").await
    }

    /// Has the server remove what was set aside, by a name of [`Admin::set_asides`].
    ///
    /// # Errors
    /// As for [`Admin::replication`]; `Refused` with `not_found` when nothing has this name.
    pub async fn drop_set_aside(&self, name: &str) -> Result<Value, ClientError> {
        let (feed, id) = name.split_once('/').unwrap_or((name, ""));
        let path = format!("repl/set-asides/{}/{}", plain(feed)?, plain(id)?);
        self.json(Method::DELETE, &path).await
    }

    /// Has the server fill what it follows over a link anew: at once, or with `remembered` in the
    /// answer when the link is next up.
    ///
    /// # Errors
    /// As for [`Admin::replication`]; `Refused` with `not_found`.
    pub async fn resync(&self, link: &str) -> Result<Value, ClientError> {
        self.json(Method::POST, &format!("repl/resync?link={}", plain(link)?)).await
    }

    /// Has the server compare what it follows with its source, and change nothing; the outcome is
    /// in [`Admin::replication`].
    ///
    /// # Errors
    /// As for [`Admin::resync`]; `Refused` with `unavailable` while the link is down.
    pub async fn verify_replication(&self, link: Option<&str>) -> Result<Value, ClientError> {
        self.compare("verify", link).await
    }

    /// As [`Admin::verify_replication`], and has what differs made as it is at the source.
    ///
    /// # Errors
    /// As for [`Admin::verify_replication`].
    pub async fn repair_replication(&self, link: Option<&str>) -> Result<Value, ClientError> {
        self.compare("repair", link).await
    }

    async fn compare(&self, how: &str, link: Option<&str>) -> Result<Value, ClientError> {
        let path = match link {
            Some(link) => format!("repl/{how}?link={}", plain(link)?),
            None => format!("repl/{how}"),
        };
        self.json(Method::POST, &path).await
    }

    async fn json(&self, method: Method, path: &str) -> Result<Value, ClientError> {
        let (body, _connection) = self.ask(method, path, WORK_MAX).await?;
        parse(&http::collect(body).await?)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        deadline: Duration,
    ) -> Result<(Incoming, Connection), ClientError> {
        self.send(method, path, Bytes::new(), deadline).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<(Incoming, Connection), ClientError> {
        let request = Request::builder()
            .method(method)
            .uri(self.target.admin(path))
            .header(header::HOST, &self.target.authority)
            .body(Full::new(body));
        let options = ClientOptions { deadline, ..self.options.clone() };
        let (response, connection) = http::send(&self.target, &options, request).await?;
        Ok((response.into_body(), connection))
    }
}

/// A name that stands in a URL as it is.
fn plain(name: &str) -> Result<&str, ClientError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:".contains(&byte);
    if !name.is_empty() && name.bytes().all(fits) {
        return Ok(name);
    }
    let message = "names of slots, links and set-asides consist of letters, digits and -_.~:";
    Err(ClientError::new(ClientErrorKind::Invalid, message))
}

fn parse(body: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the server's answer is no JSON: {error}");
        ClientError::new(ClientErrorKind::Protocol, message)
    })
}
