//! HTTP on the socket, every part of it bounded: connections, the size of a question, the time of an answer.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};

use super::protocol::{self, Reply};
use crate::model::{Fault, Result};

/// Connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 128;
/// Questions that are worked on at once. The registry is one, and each waits for its lock.
const WORKERS: usize = 4;
/// The largest question, in bytes. Docker's have some hundred.
const BODY: usize = 64 << 10;
/// The largest head of a question, in bytes.
const HEAD: usize = 16 << 10;
/// How long the head of a question may take.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a connection may take in all: a head, a wait for one of [`WORKERS`], the lock's 5 s, an answer.
const WHOLE: Duration = Duration::from_secs(25);
/// How long what has begun may take after the signal to end.
const DRAIN: Duration = Duration::from_secs(8);

/// Answers a path and a body; blocks.
pub(super) type Answer = dyn Fn(&str, &[u8]) -> Reply + Send + Sync;

/// Serves until `stop` says so.
pub(super) fn serve(listener: UnixListener, answer: Arc<Answer>, stop: watch::Receiver<bool>) -> Result<()> {
    let fault = |e: std::io::Error| Fault::failed("cannot serve Docker's questions").because(e);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .build()
        .map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener).map_err(fault)?;
        accept(listener, answer, stop).await;
        Ok(())
    })
}

async fn accept(listener: tokio::net::UnixListener, answer: Arc<Answer>, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let next = async {
            // Never closed, so it is always granted.
            let permit = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            next = next => next,
            _ = stop.changed() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors or memory: better soon than never.
                log::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME)
                .max_buf_size(HEAD)
                // A question each: then the time of a connection is that of an answer.
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service_fn(|request| reply(request, &answer)));
            match tokio::time::timeout(WHOLE, served).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log::debug!("a connection ended: {error}"),
                Err(_) => log::warn!("a connection was ended after {} s", WHOLE.as_secs()),
            }
            drop(permit);
        });
    }
    // No new questions; those that were asked get their answers, so that Docker need not ask again.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(DRAIN, room.acquire_many(all)).await;
}

async fn reply(
    request: Request<Incoming>,
    answer: &Arc<Answer>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    Ok(response(ask(request, answer).await))
}

async fn ask(request: Request<Incoming>, answer: &Arc<Answer>) -> Reply {
    if request.method() != Method::POST {
        return Reply::bad(StatusCode::METHOD_NOT_ALLOWED, "every question is a POST");
    }
    let path = request.uri().path().to_owned();
    let body = match Limited::new(request.into_body(), BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Reply::bad(StatusCode::PAYLOAD_TOO_LARGE, "the question is too long");
        }
        Err(_) => return Reply::bad(StatusCode::BAD_REQUEST, "the question can't be read"),
    };
    let answer = Arc::clone(answer);
    // It reads files and waits for a lock.
    let answered = tokio::task::spawn_blocking(move || answer(&path, &body)).await;
    answered.unwrap_or_else(|_| Reply::bad(StatusCode::INTERNAL_SERVER_ERROR, "the answer failed"))
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = reply.status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(protocol::CONTENT_TYPE));
    response
}

#[cfg(test)]
mod tests;
