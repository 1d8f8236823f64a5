//! The service: answers each request according to the memory and the misbehaviours, or leaves it unanswered.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api;
use crate::call::Call;
use crate::checks::Refusal;
use crate::memory::Memory;
use crate::misbehaviour::{Misbehaviour, Misbehaviours};

/// The state that the server's thread and the test share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) api_key: String,
    /// In a watch, so that a waiting test wakes up when it changes.
    pub(crate) memory: watch::Sender<Memory>,
    pub(crate) misbehaviours: Misbehaviours,
}

/// The router that passes every request to `service`.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new().fallback(serve).with_state(service)
}

async fn serve(State(service): State<Arc<Service>>, request: Request) -> Response {
    let Some(call) = Call::receive(request).await else { hang_up() };
    match service.misbehaviours.take(&call.path, &call.point_names()) {
        None => service.answer(&call),
        Some(misbehaviour) => service.misbehave(&call, misbehaviour).await,
    }
}

impl Service {
    /// Answers like the API.
    fn answer(&self, call: &Call) -> Response {
        respond(self.decide(call, None))
    }

    async fn misbehave(&self, call: &Call, misbehaviour: Misbehaviour) -> Response {
        match misbehaviour {
            Misbehaviour::Status { status, retry_after } => {
                let response = scripted(status, retry_after.as_deref());
                self.record(call, Some(response.status().as_u16()), "misbehaviour: Status");
                response
            }
            Misbehaviour::NotJson => {
                self.record(call, Some(200), "misbehaviour: NotJson");
                ([(header::CONTENT_TYPE, "text/html")], "<html>It works!</html>").into_response()
            }
            Misbehaviour::HangUp => {
                self.record(call, None, "misbehaviour: HangUp");
                hang_up()
            }
            Misbehaviour::NeverAnswer => {
                self.record(call, None, "misbehaviour: NeverAnswer");
                std::future::pending().await
            }
            Misbehaviour::AnswerLate(delay) => self.answer_late(call, delay).await,
            Misbehaviour::LoseAnswer => {
                // The client never sees the result.
                drop(self.decide(call, Some("misbehaviour: LoseAnswer")));
                hang_up()
            }
            Misbehaviour::RefuseMetric(_) => {
                self.record(call, Some(400), "misbehaviour: RefuseMetric");
                respond(Err(Refusal::new(400, "invalid metric")))
            }
        }
    }

    async fn answer_late(&self, call: &Call, delay: Duration) -> Response {
        let response = self.answer(call);
        tokio::time::sleep(delay).await;
        response
    }

    /// Applies the call to the memory and records it there, in one step; `lost` is the reason why there will be no answer.
    fn decide(&self, call: &Call, lost: Option<&str>) -> Result<Value, Refusal> {
        let mut request = call.to_request();
        let mut decision = Ok(Value::Null);
        self.memory.send_modify(|memory| {
            decision = api::answer(memory, call, &self.api_key);
            request.refused = decision.is_err();
            request.error = decision.as_ref().err().map(|refusal| refusal.message.clone()).or(lost.map(str::to_owned));
            if lost.is_none() {
                request.status = Some(decision.as_ref().err().map_or(200, |refusal| refusal.status));
            }
            memory.add_request(request);
        });
        decision
    }

    /// Records a call that was neither checked nor applied.
    fn record(&self, call: &Call, status: Option<u16>, error: &str) {
        let mut request = call.to_request();
        request.status = status;
        request.error = Some(error.to_owned());
        self.memory.send_modify(|memory| memory.add_request(request));
    }
}

fn respond(result: Result<Value, Refusal>) -> Response {
    match result {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(refusal) => json_response(status_code(refusal.status), &error_body(&refusal.message)),
    }
}

/// An error status from a misbehaviour.
fn scripted(status: u16, retry_after: Option<&str>) -> Response {
    let mut response = json_response(status_code(status), &error_body("misbehaviour of the stand-in"));
    if let Some(value) = retry_after.and_then(|text| HeaderValue::from_str(text).ok()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// The API's own form; the documents do not describe it, but Mackerel's client expects it.
fn error_body(message: &str) -> Value {
    json!({"error": {"message": message}})
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// Closes the connection. To unwind its task, past the hook that would print a panic, is the only way out of a handler on
/// which axum sends nothing.
fn hang_up() -> ! {
    std::panic::resume_unwind(Box::new("misbehaviour: hang up"))
}
