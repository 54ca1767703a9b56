//! The listener of the API: takes connections, and answers each request in its protocol.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, DATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::clock::http_date;
use super::error::ApiError;
use super::exchange::{Exchange, Reply};
use super::faults::Kind;
use super::record::Call;
use super::service::Service;
use super::world::World;
use super::{ecr, sts, tagging, xml};

/// More than any request of the three services has.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Serves until `stop`; what runs then is cut.
pub(super) async fn serve(listener: TcpListener, world: Arc<World>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, world.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(connection));
            }
            Err(error) => tracing::warn!(%error, "the fake of AWS cannot take a connection"),
        }
    }
}

async fn connection(stream: TcpStream, world: Arc<World>) {
    // Answers are small and whole; one that comes late because this failed is still right.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(world.clone(), request));
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection to the fake of AWS ended early");
    }
}

/// Answers a request; an error closes the connection without an answer.
async fn answer(
    world: Arc<World>,
    request: Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(io::Error::other)?.to_bytes();
    let request_id = world.next_request_id();
    let Some((service, operation)) = Service::of(&parts.headers, &body) else {
        let error = ApiError::new("UnknownOperationException", "");
        return Ok(refusal(&world, Service::Ecr, &error, &request_id));
    };
    let mut exchange = Exchange::new(&world, service, operation, &body, request_id);
    tokio::time::sleep(exchange.delay()).await;
    let cut = exchange.has_fault(&Kind::Cut);
    let result = if cut { Err(cut_off()) } else { handle(&mut exchange, &parts).await };
    world.record.add(Call {
        action: exchange.action(),
        resources: std::mem::take(&mut exchange.resources),
        principal: exchange.caller.as_ref().map(|caller| caller.arn.clone()),
        error: result.as_ref().err().map(|error| error.code.to_string()),
        request_id: exchange.request_id.clone(),
    });
    if cut || exchange.has_fault(&Kind::LostAnswer) {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    Ok(match result {
        Ok(reply) => success(&world, reply, &exchange.request_id),
        Err(error) => refusal(&world, service, &error, &exchange.request_id),
    })
}

/// What the record says of a request whose connection was cut.
fn cut_off() -> ApiError {
    ApiError::new("ConnectionCut", "the connection was cut on demand")
}

async fn handle(
    exchange: &mut Exchange<'_>,
    parts: &hyper::http::request::Parts,
) -> Result<Reply, ApiError> {
    exchange.fault()?;
    // The token is the proof here.
    // Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>
    let unsigned = exchange.operation == sts::ASSUME_ROLE_WITH_WEB_IDENTITY;
    if !unsigned || exchange.service != Service::Sts {
        exchange.authenticate(parts)?;
    }
    match exchange.service {
        Service::Ecr => ecr::answer(exchange).await.map(Reply::Json),
        Service::Tagging => tagging::answer(exchange).await.map(Reply::Json),
        Service::Sts => sts::answer(exchange).map(|(name, content)| Reply::Xml(name, content)),
    }
}

fn success(world: &World, reply: Reply, request_id: &str) -> Response<Full<Bytes>> {
    match reply {
        Reply::Json(value) => {
            response(world, StatusCode::OK, Format::Json, value.to_string(), request_id)
        }
        Reply::Xml(name, mut content) => {
            let request_id_element = xml::text("RequestId", request_id);
            content.push(xml::nested("ResponseMetadata", &[request_id_element]));
            let text = xml::document(name, &content);
            response(world, StatusCode::OK, Format::Xml, text, request_id)
        }
    }
}

fn refusal(
    world: &World,
    service: Service,
    error: &ApiError,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let (format, text) = match service {
        Service::Sts => (Format::Xml, error.to_xml(request_id)),
        Service::Ecr | Service::Tagging => (Format::Json, error.to_json(service).to_string()),
    };
    response(world, error.status, format, text, request_id)
}

enum Format {
    Json,
    Xml,
}

fn response(
    world: &World,
    status: StatusCode,
    format: Format,
    text: String,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let content_type = match format {
        Format::Json => "application/x-amz-json-1.1",
        Format::Xml => "text/xml",
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let date = http_date(world.clock.now());
    for (name, value) in [
        (CONTENT_TYPE.as_str(), content_type),
        ("x-amzn-requestid", request_id),
        (DATE.as_str(), &date),
    ] {
        // None of the values has a character that a header cannot carry.
        if let (Ok(name), Ok(value)) =
            (hyper::header::HeaderName::try_from(name), hyper::header::HeaderValue::from_str(value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
