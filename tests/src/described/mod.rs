//! The description of the HTTP interface as a judge: an answer that is not described fails the claim that got it.

mod closed;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use anyhow::{Context, bail, ensure};
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Answer;

/// The committed description, of which a unit test says that it is that of the routes.
const COMMITTED: &str = include_str!("../../../docs/openapi.json");

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| Description::read(COMMITTED));

/// Headers that an answer has only where its description says so.
const SAID_WHERE_THEY_OCCUR: [&str; 9] = [
    "accept-encoding",
    "content-security-policy",
    "etag",
    "location",
    "preference-applied",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "www-authenticate",
];

/// Where there is no such path unless it is set up.
const SET_UP: [&str; 2] = ["/v1/payments/stripe", "/v1/webhooks"];

/// The description, with its schemas closed.
pub struct Description {
    document: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// Requires that an answer of an ingest process is described: its status, its headers, its content type, and every
/// member of its body.
///
/// # Panics
/// It is not.
#[track_caller]
pub fn require(method: &Method, path: &str, answer: &Answer) {
    if let Err(error) = DESCRIPTION.judge(method, path, answer) {
        panic!(
            "{method} {path} answered what docs/openapi.json does not say: {error:#}\n{} {:?}\n{}",
            answer.status,
            answer.headers,
            String::from_utf8_lossy(&answer.body)
        );
    }
}

/// Every route that is described: its path and its method.
#[must_use]
pub fn routes() -> Vec<(String, Method)> {
    let paths = DESCRIPTION.document["paths"].as_object();
    let each = paths.into_iter().flatten().flat_map(|(path, item)| {
        let methods = item.as_object().into_iter().flatten();
        let methods = methods.filter_map(|(name, _)| name.to_uppercase().parse().ok());
        methods.map(|method| (path.clone(), method))
    });
    each.collect()
}

impl Description {
    fn read(text: &str) -> Self {
        let mut document: Value = serde_json::from_str(text).expect("a description");
        let schemas = document["components"]["schemas"].as_object_mut();
        closed::close_all(schemas.expect("schemas"));
        Self {
            document,
            validators: Mutex::default(),
        }
    }

    fn judge(&self, method: &Method, path: &str, answer: &Answer) -> anyhow::Result<()> {
        let path = path.split(['?', '#']).next().unwrap_or_default();
        // Another listener, and what browsers ask before they ask.
        if path == "/metrics" || *method == Method::OPTIONS {
            return Ok(());
        }
        let is_missing = SET_UP.iter().any(|it| path.starts_with(it))
            && String::from_utf8_lossy(&answer.body).contains("there is no such path");
        let item = self.item(path).filter(|_| !is_missing);
        let Some((_, item)) = item else {
            return self.judge_refusal(answer, 404, "not_found");
        };
        let asked = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let operation = item.get(asked.as_str().to_lowercase());
        let Some(operation) = operation else {
            ensure!(answer.headers.contains_key("allow"), "there is no Allow");
            return self.judge_refusal(answer, 405, "method_not_allowed");
        };
        let status = answer.status.as_str();
        let response = operation["responses"].get(status);
        let response = response.with_context(|| format!("the status {status} is not described"))?;
        let response = self.resolved(response);
        for name in SAID_WHERE_THEY_OCCUR {
            let mut described = response["headers"].as_object().into_iter().flatten();
            ensure!(
                !answer.headers.contains_key(name)
                    || described.any(|(described, _)| described.eq_ignore_ascii_case(name)),
                "the header {name} is not described there"
            );
        }
        if *method == Method::HEAD {
            ensure!(answer.body.is_empty(), "the answer to HEAD has a body");
            return Ok(());
        }
        self.judge_body(response, answer)
    }

    fn judge_body(&self, response: &Value, answer: &Answer) -> anyhow::Result<()> {
        let Some(contents) = response["content"].as_object() else {
            ensure!(answer.body.is_empty(), "no body is described");
            return Ok(());
        };
        let content_type = answer.header("content-type").unwrap_or_default();
        let content = contents.get(content_type);
        let content = content
            .with_context(|| format!("the content type {content_type:?} is not described"))?;
        if content_type.ends_with("json") {
            let body = serde_json::from_slice(&answer.body).context("the body is not JSON")?;
            return self.judge_value(&content["schema"], &body);
        }
        Ok(())
    }

    /// A refusal that any path may give.
    fn judge_refusal(&self, answer: &Answer, status: u16, code: &str) -> anyhow::Result<()> {
        ensure!(answer.status == status, "{code} is {status}");
        if answer.body.is_empty() {
            // Of `HEAD`.
            return Ok(());
        }
        let body: Value = serde_json::from_slice(&answer.body).context("the body is not JSON")?;
        ensure!(body["code"] == code, "the code is not {code}");
        self.judge_value(&json!({"$ref": "#/components/schemas/Problem"}), &body)
    }

    fn judge_value(&self, schema: &Value, body: &Value) -> anyhow::Result<()> {
        let validator = self.validator(schema)?;
        let faults = validator.iter_errors(body).take(5);
        let faults: Vec<_> = faults
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        if !faults.is_empty() {
            bail!("{}", faults.join("; "));
        }
        Ok(())
    }

    /// What judges values of a schema, made once.
    fn validator(&self, schema: &Value) -> anyhow::Result<Arc<Validator>> {
        let key = schema.to_string();
        let known = self.validators.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(validator) = known.get(&key) {
            return Ok(Arc::clone(validator));
        }
        let mut whole = schema.clone();
        closed::close(&mut whole);
        let schemas = &self.document["components"]["schemas"];
        whole["components"] = json!({ "schemas": schemas });
        let options = jsonschema::draft202012::options().should_validate_formats(true);
        let validator = Arc::new(options.build(&whole)?);
        known.insert(key, Arc::clone(&validator));
        Ok(validator)
    }

    /// The described path that a path is one of. One without a name in its place counts first.
    fn item(&self, path: &str) -> Option<(&str, &Value)> {
        let paths = self.document["paths"].as_object()?;
        if let Some((described, item)) = paths.get_key_value(path) {
            return Some((described, item));
        }
        let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
        let asked = parts(path);
        let is_one = |described: &&String| {
            let described = parts(described);
            let pairs = || described.iter().zip(&asked);
            described.len() == asked.len()
                && pairs().all(|(described, asked)| {
                    described == asked || (described.starts_with('{') && !asked.is_empty())
                })
        };
        let mut found = paths.keys().filter(is_one);
        let described = found.next()?;
        Some((described, &paths[described]))
    }

    fn resolved<'v>(&'v self, value: &'v Value) -> &'v Value {
        let pointer = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        let target = pointer.and_then(|it| self.document.pointer(it));
        target.unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use reqwest::{
        StatusCode,
        header::{HeaderName, HeaderValue},
    };

    use super::*;

    const ID: &str = "01a1fe23-4721-808d-a41e-5192f1f4fdd2";

    fn judge(
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: &Value,
    ) -> anyhow::Result<()> {
        let headers = headers.iter().map(|&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let answer = Answer {
            status: StatusCode::from_u16(status)?,
            headers: headers.collect(),
            body: body.to_string().into(),
        };
        DESCRIPTION.judge(&Method::POST, "/v1/orders", &answer)
    }

    fn problem(status: u16, code: &str) -> Value {
        json!({
            "type": format!("urn:hotrow:problem:{code}"), "title": "a title", "status": status,
            "detail": "a detail", "code": code, "request_id": "r",
        })
    }

    #[test]
    fn an_answer_that_is_described_passes() -> anyhow::Result<()> {
        let json = ("content-type", "application/json");
        let receipt = json!({
            "order_id": ID, "status": "queued", "status_url": "/v1/orders", "estimated_wait_ms": 1,
        });
        judge(202, &[json, ("retry-after", "1")], &receipt)?;
        let refused = ("content-type", "application/problem+json");
        judge(409, &[refused], &problem(409, "sold_out"))?;
        judge(
            503,
            &[refused, ("retry-after", "1")],
            &problem(503, "paused"),
        )
    }

    #[test]
    fn whatever_is_not_described_fails() {
        let json = ("content-type", "application/json");
        let refused = ("content-type", "application/problem+json");
        let receipt = |id: &str, status: &str| {
            json!({
                "order_id": id, "status": status, "status_url": "/v1/orders", "estimated_wait_ms": 1,
            })
        };
        let mut more = receipt(ID, "queued");
        more["more"] = json!(1);
        let mut unknown = problem(409, "sold_out");
        unknown["more"] = json!(1);
        for (status, headers, body) in [
            (202, vec![json], more),
            (202, vec![json], receipt("not-an-id", "queued")),
            (202, vec![json], receipt(ID, "confirmed")),
            (202, vec![json], json!({ "order_id": ID })),
            (202, vec![json, ("etag", "\"1\"")], receipt(ID, "queued")),
            (
                202,
                vec![("content-type", "text/plain")],
                receipt(ID, "queued"),
            ),
            (200, vec![json], receipt(ID, "queued")),
            (418, vec![refused], problem(418, "sold_out")),
            (409, vec![refused], unknown),
            (409, vec![refused], problem(409, "conflict")),
            (409, vec![refused], problem(422, "sold_out")),
            (
                409,
                vec![refused, ("ratelimit", "x")],
                problem(409, "sold_out"),
            ),
        ] {
            let judged = judge(status, &headers, &body);
            assert!(judged.is_err(), "{status} {headers:?} {body}");
        }
    }
}
