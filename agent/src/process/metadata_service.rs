//! Requests to the metadata service of a cloud, for `machine::host::cloud`.

use std::pin::Pin;
use std::time::Duration;

use delivery::mackerel::Resolver;
use machine::host::cloud::{Client, Request};
use reqwest::header::CONTENT_LENGTH;
use reqwest::{Method, StatusCode, redirect};
use wasaba_core::text::duration;
use wasaba_core::tls;

/// The limit of one request: connecting, sending, and the whole response.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The longest response; the largest that is real, Google's whole tree, has some ten kilobytes.
const MOST_BYTES: usize = 1 << 20;

/// The metadata service that a URL names. Each request has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct MetadataService;

impl Client for MetadataService {
    fn text<'a>(
        &'a self,
        request: Request<'a>,
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>, String>> + Send + 'a>> {
        Box::pin(text(request, tokio::time::sleep(TIMEOUT)))
    }
}

/// See [`Client::text`]. At `deadline` the connection is closed.
async fn text(request: Request<'_>, deadline: impl Future<Output = ()>) -> Result<Option<String>, String> {
    tokio::select! {
        text = exchange(request) => text,
        () = deadline => Err(format!("timed out after {}", duration(TIMEOUT))),
    }
}

async fn exchange(request: Request<'_>) -> Result<Option<String>, String> {
    fn text(error: impl std::error::Error) -> String {
        error.to_string()
    }
    // reqwest needs a TLS configuration even for plain HTTP.
    #[expect(clippy::disallowed_methods, reason = "it resolves names by the agent's resolver")]
    let client = reqwest::Client::builder().dns_resolver(Resolver);
    let client = client.http1_only().no_proxy().redirect(redirect::Policy::none());
    let client = client.tls_backend_preconfigured(tls::none().map_err(text)?).build().map_err(text)?;
    let method = if request.is_put { Method::PUT } else { Method::GET };
    let headers = request.headers.iter();
    let built = headers.fold(client.request(method, request.url), |built, (name, value)| built.header(*name, *value));
    // reqwest does not send the length of an empty body.
    let built = if request.is_put { built.header(CONTENT_LENGTH, 0) } else { built };
    let mut response = built.send().await.map_err(text)?;
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(text)? {
        if body.len() + chunk.len() > MOST_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8(body).ok())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// The head of a request in lower case.
    async fn head(stream: &mut TcpStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    /// The text at a service that gives this response, and the head that it got.
    async fn text_of(is_put: bool, response: String) -> (Result<Option<String>, String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a?b=c", listener.local_addr().unwrap());
        let service = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head(&mut stream).await;
            // A client that has read enough hangs up.
            stream.write_all(response.as_bytes()).await.ok();
            head
        };
        let request = Request { is_put, url: &url, headers: &[("Metadata", "true")] };
        tokio::join!(text(request, std::future::pending()), service)
    }

    #[tokio::test]
    async fn a_request_has_its_host_its_headers_and_the_length_of_an_empty_body() {
        for (is_put, line) in [(false, "get"), (true, "put")] {
            let response = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ntext".to_owned();
            let (text, head) = text_of(is_put, response).await;
            assert_eq!(text, Ok(Some("text".to_owned())));
            assert!(head.starts_with(&format!("{line} /a?b=c http/1.1\r\n")), "{head}");
            assert!(head.contains("\r\nhost: 127.0.0.1:") && head.contains("\r\nmetadata: true\r\n"), "{head}");
            assert_eq!(head.contains("\r\ncontent-length: 0\r\n"), is_put, "{head}");
        }
    }

    #[tokio::test]
    async fn a_response_may_be_chunked_and_end_with_the_connection() {
        for rest in ["transfer-encoding: chunked\r\n\r\n4\r\ntext\r\n0\r\n\r\n", "\r\ntext"] {
            let (text, _) = text_of(false, format!("HTTP/1.1 200 OK\r\n{rest}")).await;
            assert_eq!(text, Ok(Some("text".to_owned())), "{rest}");
        }
    }

    #[tokio::test]
    async fn a_body_above_the_limit_gives_no_text() {
        let response = |bytes: usize| {
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n{}\r\n0\r\n\r\n",
                "x".repeat(bytes)
            )
        };
        let (text, _) = text_of(false, response(MOST_BYTES)).await;
        assert_eq!(text.unwrap().map(|text| text.len()), Some(MOST_BYTES));
        let (text, _) = text_of(false, response(MOST_BYTES + 1)).await;
        assert_eq!(text, Ok(None));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = elsewhere.local_addr().unwrap();
        let response = format!("HTTP/1.1 302 Found\r\nlocation: http://{location}/x\r\ncontent-length: 0\r\n\r\n");
        let followed = tokio::select! {
            (text, _) = text_of(false, response) => { assert_eq!(text, Ok(None)); false }
            _ = elsewhere.accept() => true,
        };
        assert!(!followed);
    }

    #[tokio::test]
    async fn a_service_that_accepts_and_never_responds_times_out_and_the_connection_is_closed() {
        for begin in ["", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nte"] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let (expire, deadline) = tokio::sync::oneshot::channel::<()>();
            let deadline = async { deadline.await.unwrap() };
            let service = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                head(&mut stream).await;
                stream.write_all(begin.as_bytes()).await.unwrap();
                expire.send(()).unwrap();
                stream.read_u8().await
            };
            let request = Request { is_put: false, url: &url, headers: &[] };
            let (text, closed) = tokio::join!(text(request, deadline), service);
            assert_eq!(text, Err("timed out after 3 s".to_owned()));
            assert!(closed.is_err(), "it is closed with the request");
        }
    }
}
