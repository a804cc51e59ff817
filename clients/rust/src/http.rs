//! What is too large for a frame goes over HTTP: exports stream, large updates have a body.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::answer::parse_refusal;
use crate::error::{ClientError, ClientErrorKind};
use crate::options::ClientOptions;
use crate::target::Target;

/// Longest refusal that is read.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The value as one JSON text.
    Json,
    /// A line `{"path":...,"value":...}` for every leaf, paths relative to the path exported.
    Ndjson,
}

/// A subtree on its way here, as of one commit.
///
/// Memory is that of a few chunks, whatever the size of the subtree. Dropping it ends the transfer.
#[derive(Debug)]
pub struct Export {
    body: Incoming,
    rev: u64,
    idle_max: Duration,
    /// Held so that the connection lives as long as the export.
    _connection: Connection,
}

/// The task that drives an HTTP connection; it ends with its user.
#[derive(Debug)]
pub(crate) struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Export {
    /// The commit that the export is as of.
    #[must_use]
    pub fn rev(&self) -> u64 {
        self.rev
    }

    /// The next piece of text, of any length; `None` at the end.
    ///
    /// # Errors
    /// `Unreachable` when the transfer broke off: what came so far is a part, never the whole.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, ClientError> {
        let broken = || {
            ClientError::new(ClientErrorKind::Unreachable, "the export broke off; start it again")
        };
        loop {
            let frame = match timeout(self.idle_max, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) | Err(_) => return Err(broken()),
            };
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
    }
}

/// Starts an export.
pub(crate) async fn export(
    target: &Target,
    options: &ClientOptions,
    path: &str,
    format: ExportFormat,
) -> Result<Export, ClientError> {
    let accept = match format {
        ExportFormat::Json => "application/json",
        ExportFormat::Ndjson => "application/x-ndjson",
    };
    let request = Request::builder()
        .method(Method::GET)
        .uri(target.location(path))
        .header(header::HOST, &target.authority)
        .header(header::ACCEPT, accept)
        .body(Full::new(Bytes::new()));
    let (response, connection) = send(target, options, request).await?;
    let rev = response
        .headers()
        .get("trellis-rev")
        .and_then(|rev| rev.to_str().ok())
        .and_then(|rev| rev.parse().ok())
        .unwrap_or(0);
    Ok(Export {
        body: response.into_body(),
        rev,
        idle_max: options.deadline,
        _connection: connection,
    })
}

/// Sends the updates of `body`, a JSON object of paths and values, as one commit.
pub(crate) async fn update(
    target: &Target,
    options: &ClientOptions,
    body: Bytes,
    key: &str,
) -> Result<Bytes, ClientError> {
    let request = Request::builder()
        .method(Method::PATCH)
        .uri(target.location(""))
        .header(header::HOST, &target.authority)
        .header(header::CONTENT_TYPE, "application/json")
        .header("idempotency-key", key)
        .body(Full::new(body));
    let (response, _connection) = send(target, options, request).await?;
    collect(response.into_body()).await
}

pub(crate) async fn send(
    target: &Target,
    options: &ClientOptions,
    request: Result<Request<Full<Bytes>>, hyper::http::Error>,
) -> Result<(Response<Incoming>, Connection), ClientError> {
    let request = request.map_err(|error| {
        ClientError::new(ClientErrorKind::Invalid, format!("this cannot be asked: {error}"))
    })?;
    let unreachable = |why: String| {
        let message = format!("no answer from {}: {why}", target.authority);
        ClientError::new(ClientErrorKind::Unreachable, message)
    };
    let exchange = async {
        let stream = TcpStream::connect(&target.authority)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let connection = Connection(tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an HTTP connection ended early");
            }
        }));
        let response =
            sender.send_request(request).await.map_err(|error| unreachable(error.to_string()))?;
        Ok((response, connection))
    };
    let (response, connection) = match timeout(options.deadline, exchange).await {
        Ok(outcome) => outcome?,
        Err(_elapsed) => {
            return Err(ClientError::new(
                ClientErrorKind::Deadline,
                "the server did not answer in time",
            ));
        }
    };
    if response.status().is_success() {
        return Ok((response, connection));
    }
    let status = response.status().as_u16();
    let body = collect(response.into_body()).await?;
    Err(parse_refusal(&body, status))
}

pub(crate) async fn collect(body: Incoming) -> Result<Bytes, ClientError> {
    let limited = http_body_util::Limited::new(body, REFUSAL_BYTES_MAX);
    let collected = limited.collect().await.map_err(|error| {
        ClientError::new(ClientErrorKind::Unreachable, format!("the answer broke off: {error}"))
    })?;
    Ok(collected.to_bytes())
}
