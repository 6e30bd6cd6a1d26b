//! What the window's own routes refuse, in the form that Hotrow's problems have.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Hotrow does not run yet.
    NotReady,
    /// The request came by another name.
    WrongHost(String),
    /// Another page sent it.
    WrongOrigin,
    NotFound,
    /// With what is wrong.
    Invalid(String),
    /// With what is in the way.
    Conflict(String),
    /// With who does not answer.
    Unavailable(String),
    TooMany,
}

impl Refusal {
    const fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotReady | Self::TooMany | Self::Unavailable(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            Self::WrongHost(_) => (StatusCode::MISDIRECTED_REQUEST, "wrong_host"),
            Self::WrongOrigin => (StatusCode::FORBIDDEN, "forbidden"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
        }
    }

    fn detail(self) -> String {
        match self {
            Self::NotReady => "the servers and Hotrow are starting".to_owned(),
            Self::WrongHost(address) => format!("this is {address}, and answers to no other name"),
            Self::WrongOrigin => "only the window's own page may do this".to_owned(),
            Self::NotFound => "there is no such file".to_owned(),
            Self::TooMany => "too many requests are under way".to_owned(),
            Self::Invalid(detail) | Self::Conflict(detail) | Self::Unavailable(detail) => detail,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let problem = json!({ "code": code, "detail": self.detail() });
        let mut response = (status, Json(problem)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, second);
        }
        response
    }
}
