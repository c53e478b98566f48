//! hyper's own example, with its graceful shutdown on SIGTERM.
use hyper::service::{make_service_fn, service_fn};
use hyper::{Body, Request, Response, Server};
use std::{convert::Infallible, env, net::SocketAddr};
use tokio::signal::unix::{signal, SignalKind};

async fn hello(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    let generation = env::var("HOLDFAST_GENERATION").unwrap_or_else(|_| "0".to_string());
    Ok(Response::new(Body::from(format!("generation={}\n", generation))))
}

#[tokio::main]
async fn main() {
    let address: SocketAddr = env::args().nth(1).expect("ADDRESS").parse().expect("host:port");
    let mut term = signal(SignalKind::terminate()).expect("SIGTERM");
    let service = make_service_fn(|_| async { Ok::<_, Infallible>(service_fn(hello)) });
    let server = Server::bind(&address).serve(service).with_graceful_shutdown(async move {
        term.recv().await;
    });
    server.await.expect("serve");
}
