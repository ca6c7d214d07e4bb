//! Requests to the gRPC port that are not gRPC: what a browser, curl or a gRPC-Web client sends. They
//! get an HTTP status and a line of text that a person understands, and nothing of them is looked at
//! beyond their head. Serving them would do harm: a browser sends `text/plain` from any page to any
//! port that it reaches, without asking first.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};

/// The type of every call, which `+` and the name of an encoding, or parameters, may follow.
const GRPC: &[u8] = b"application/grpc";
/// Longer than any name that somebody would type.
const MAX_AUTHORITY_BYTES: usize = 255;

/// Reason why a request is not a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotGrpc {
    /// HTTP/1 instead of HTTP/2.
    Version,
    /// Another method than POST.
    Method,
    /// Another content type than gRPC's, such as JSON's or gRPC-Web's.
    ContentType,
}

impl NotGrpc {
    /// Returns why a request over HTTP/2 is not a call; `None` for a call.
    #[must_use]
    #[inline]
    pub fn of<B>(request: &Request<B>) -> Option<Self> {
        if request.method() != Method::POST {
            return Some(NotGrpc::Method);
        }
        (!has_content_type_of_grpc(request.headers())).then_some(NotGrpc::ContentType)
    }

    /// Returns the answer, which names the command that speaks to this port.
    #[must_use]
    pub fn response(self, authority: Option<&str>, is_encrypted: bool) -> Response<Bytes> {
        let status = match self {
            NotGrpc::Method => StatusCode::METHOD_NOT_ALLOWED,
            NotGrpc::Version | NotGrpc::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        let mut response = Response::new(Bytes::from(text(authority, is_encrypted)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, plain);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
        if self == NotGrpc::Method {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        response
    }
}

/// Returns whether the content type is gRPC's own: neither gRPC-Web's nor one whose messages are JSON.
#[inline]
fn has_content_type_of_grpc(headers: &HeaderMap) -> bool {
    let Some(content_type) = headers.get(CONTENT_TYPE) else { return false };
    let Some((begins, rest)) = content_type.as_bytes().split_at_checked(GRPC.len()) else {
        return false;
    };
    begins.eq_ignore_ascii_case(GRPC)
        && match rest.split_first() {
            None | Some((b';' | b' ' | b'\t', _)) => true,
            Some((b'+', encoding)) => {
                !encoding.get(..4).is_some_and(|begins| begins.eq_ignore_ascii_case(b"json"))
            }
            Some(_) => false,
        }
}

/// The text for a person. A later port for JSON is to be named here.
fn text(authority: Option<&str>, is_encrypted: bool) -> String {
    let is_plain = |name: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        (1..=MAX_AUTHORITY_BYTES).contains(&name.len()) && name.bytes().all(plain)
    };
    let authority = authority.filter(is_plain).unwrap_or("HOST:PORT");
    let plaintext = if is_encrypted { "" } else { "-plaintext " };
    format!(
        "This port speaks gRPC only (HTTP/2, POST, content-type application/grpc), neither HTTP/1 nor \
         JSON nor gRPC-Web. Try: grpcurl {plaintext}{authority} list\n\
         Health and metrics for HTTP clients are on another port: see --admin-addr.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(method: Method, content_type: Option<&str>) -> Option<NotGrpc> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        if let Some(content_type) = content_type {
            request.headers_mut().insert(CONTENT_TYPE, content_type.parse().unwrap());
        }
        NotGrpc::of(&request)
    }

    #[test]
    fn only_posts_of_grpc_are_calls() {
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+custom",
            "application/grpc; charset=utf-8",
            "Application/GRPC+proto",
        ] {
            assert_eq!(why(Method::POST, Some(content_type)), None, "{content_type}");
            for method in [Method::GET, Method::PUT, Method::OPTIONS, Method::CONNECT] {
                assert_eq!(why(method, Some(content_type)), Some(NotGrpc::Method));
            }
        }
        for content_type in [
            "",
            "text/plain",
            "application/json",
            "application/grpc+json",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpcx",
            "application/connect+proto",
            "application/x-www-form-urlencoded",
        ] {
            let refused = Some(NotGrpc::ContentType);
            assert_eq!(why(Method::POST, Some(content_type)), refused, "{content_type}");
        }
        assert_eq!(why(Method::POST, None), Some(NotGrpc::ContentType));
    }

    #[test]
    fn the_command_to_try_is_one_that_works_and_repeats_nothing_odd() {
        let said = text(Some("localhost:50051"), false);
        assert!(said.contains("Try: grpcurl -plaintext localhost:50051 list\n"), "{said}");
        let said = text(Some("[::1]:443"), true);
        assert!(said.contains("Try: grpcurl [::1]:443 list\n"), "{said}");
        for odd in ["", "a;b", "<script>", "a b", &"x".repeat(256)] {
            assert!(text(Some(odd), true).contains("grpcurl HOST:PORT list"), "{odd}");
        }
    }
}
