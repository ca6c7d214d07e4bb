//! What the service is measured against: gRPC that decides nothing, as tonic serves it by default,
//! and as fast as tonic goes.

use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Buf as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rolegate::grpc::pb::{BatchCheckRequest, CheckStreamRequest, FilterResourcesRequest};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use self::pb::echo_server::{Echo, EchoServer};
use rolegate_bench::Failure;

#[allow(unreachable_pub, missing_docs, reason = "generated code")]
pub(crate) mod pb {
    tonic::include_proto!("bench");
}

/// Answers with what it got.
#[derive(Debug, Clone, Copy)]
struct Echoing {
    /// How much of a payload it answers with.
    reply: usize,
}

#[tonic::async_trait]
impl Echo for Echoing {
    async fn payload(&self, request: Request<pb::Bytes>) -> Result<Response<pb::Bytes>, Status> {
        let pb::Bytes { data } = request.into_inner();
        let reply = data.remaining().min(self.reply);
        Ok(Response::new(pb::Bytes { data: data.slice(..reply) }))
    }

    async fn batch(
        &self,
        request: Request<BatchCheckRequest>,
    ) -> Result<Response<BatchCheckRequest>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn filter(
        &self,
        request: Request<FilterResourcesRequest>,
    ) -> Result<Response<FilterResourcesRequest>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<CheckStreamRequest, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<CheckStreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(Box::pin(request.into_inner().map(|message| message))))
    }
}

/// As whoever starts with tonic has it.
pub(crate) fn default(address: SocketAddr, reply: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server =
        tonic::transport::Server::builder().add_service(EchoServer::new(Echoing { reply }));
    Ok(runtime.block_on(server.serve(address))?)
}

/// As fast as tonic's code goes: one thread, and the generated service directly on hyper's
/// connection.
pub(crate) fn tuned(address: SocketAddr, reply: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let service = EchoServer::new(Echoing { reply });
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service)
                    .await
                    .ok();
            });
        }
    })
}
