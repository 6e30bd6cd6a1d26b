//! Schemas of plain values, from which those of larger types are put together for the description of the HTTP
//! interface (JSON Schema 2020-12, as OpenAPI 3.1 uses it).

use std::ops::RangeInclusive;

use serde_json::Value;
use utoipa::openapi::{
    KnownFormat, Object, ObjectBuilder, RefOr, Schema, SchemaFormat, Type, schema::SchemaType,
};

/// A text of 1 to `length_max` ASCII letters, digits and characters of `punctuation`, which ends with its dash.
#[must_use]
pub fn name(
    length_max: usize,
    punctuation: &[u8],
    description: &str,
    example: &str,
) -> RefOr<Schema> {
    let punctuation = String::from_utf8_lossy(punctuation);
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(length_max))
        .pattern(Some(format!("^[A-Za-z0-9{punctuation}]+$")))
        .description(Some(description))
        .examples([example])
        .into()
}

/// A whole number within bounds.
#[must_use]
pub fn integer(bounds: RangeInclusive<i64>, description: &str, example: i64) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(i64_number(*bounds.start())))
        .maximum(Some(i64_number(*bounds.end())))
        .description(Some(description))
        .examples([example])
        .into()
}

/// One of these words.
#[must_use]
pub fn words<'a>(words: impl IntoIterator<Item = &'a str>, description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .description(Some(description))
        .build()
}

/// A time as RFC 3339 writes it.
#[must_use]
pub fn time(description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some(description))
        .build()
}

/// Nothing: null alone.
#[must_use]
pub fn null(description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::Null)
        .description(Some(description))
        .build()
}

/// The same schema without null among its types.
#[must_use]
pub fn never_null(mut schema: Object) -> Object {
    if let SchemaType::Array(types) = &schema.schema_type {
        let mut others = types.iter().filter(|it| **it != Type::Null).cloned();
        if let (Some(only), None) = (others.next(), others.next()) {
            schema.schema_type = SchemaType::Type(only);
        }
    }
    schema
}

/// The object that a derived schema is.
///
/// # Panics
/// The schema is none of a struct.
#[must_use]
pub fn object(schema: RefOr<Schema>) -> Object {
    match schema {
        RefOr::T(Schema::Object(object)) => object,
        _ => panic!("the schema of a struct is an object"),
    }
}

/// An example of a value, as the value itself serialises.
///
/// # Panics
/// It cannot be written as JSON.
#[must_use]
pub fn example(value: impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("an example can be written as JSON")
}

/// A bound as the schema has it.
fn i64_number(number: i64) -> utoipa::Number {
    utoipa::Number::Int(isize::try_from(number).unwrap_or(isize::MAX))
}
