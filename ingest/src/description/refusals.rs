//! Refusals as answers of a route: each status with the codes that the route may give there.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        AllOfBuilder, Content, ContentBuilder, ObjectBuilder, Ref, RefOr, Response,
        ResponseBuilder, Schema, Type,
        example::{Example, ExampleBuilder},
    },
};

use super::{headers, samples};
use crate::http::{code::Code, problem::CONTENT_TYPE, problem_body::ProblemBody};

/// The request id of the examples.
const REQUEST_ID: &str = "0c2a9e0f-7d62-4b1e-9a55-2f1f6f8a4c11";

/// The schema of all refusals, and those that it needs.
pub(super) fn schemas() -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
    ProblemBody::schemas(&mut schemas);
    schemas
}

/// The answer of a status that may have these codes, and its name among the components.
pub(super) fn response(status: u16, codes: &[Code]) -> (String, Response) {
    let words: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let titles: Vec<_> = codes.iter().map(|code| code.title()).collect();
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name(ProblemBody::name()))
        .item(
            ObjectBuilder::new()
                .property("status", of_number(status))
                .property("code", of_words(&words)),
        )
        .build();
    let content = ContentBuilder::new().schema(Some(Schema::AllOf(schema)));
    let content: Content = content.examples_from_iter(references(codes)).build();
    let response = ResponseBuilder::new()
        .description(format!("{}.", titles.join(", or: ")))
        .content(CONTENT_TYPE, content);
    let mut response = response.build();
    let names = header_names(codes).into_iter();
    response.headers = names
        .map(|name| (name.to_owned(), headers::reference(name)))
        .collect();
    let name = format!("problem.{status}.{}", words.join("."));
    (name, response)
}

/// The examples of these codes, as components.
pub(super) fn examples(codes: &[Code]) -> BTreeMap<String, RefOr<Example>> {
    codes
        .iter()
        .map(|code| (key(*code), example(*code).into()))
        .collect()
}

fn references(codes: &[Code]) -> impl Iterator<Item = (String, RefOr<Example>)> {
    codes.iter().map(|code| {
        let reference = Ref::new(format!("#/components/examples/{}", key(*code)));
        (code.as_str().to_owned(), RefOr::Ref(reference))
    })
}

/// The name of the example of a code. A word may be that of two codes.
fn key(code: Code) -> String {
    format!("{}.{}", code.status().as_u16(), code.as_str())
}

fn example(code: Code) -> Example {
    let problem = samples::of(code);
    let methods = || "GET, HEAD".to_owned();
    let body = ProblemBody::of(&problem, REQUEST_ID, methods);
    ExampleBuilder::new()
        .summary(code.title())
        .value(Some(hotrow_shared::schema::example(body)))
        .build()
}

fn header_names(codes: &[Code]) -> Vec<&'static str> {
    let mut names = vec!["X-Request-Id", "Cache-Control"];
    if codes.iter().any(|code| code.may_say_when()) {
        names.push("Retry-After");
    }
    for code in codes {
        names.extend_from_slice(match code {
            Code::RateLimited => &["RateLimit", "RateLimit-Policy"],
            Code::Unauthorized => &["WWW-Authenticate"],
            Code::UnsupportedMediaType => &["Accept-Encoding"],
            _ => &[],
        });
    }
    names
}

fn of_number(number: u16) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .enum_values(Some([Value::from(number)]))
}

fn of_words(words: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words.iter().copied()))
}
