//! Bodies of requests: unlike answers, which may get new members, they have the members that are described and no
//! others.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::openapi::{
    RefOr, Schema, Type,
    path::Operation,
    schema::{AdditionalProperties, ArrayItems, SchemaType},
};

type Schemas = BTreeMap<String, RefOr<Schema>>;

/// Says of a body that may be left out that it may be, and not that it may be null.
pub(super) fn never_null(operation: &mut Operation) {
    let Some(RefOr::T(body)) = &mut operation.request_body else {
        return;
    };
    for content in body.content.values_mut() {
        if let RefOr::T(content) = content
            && let Some(RefOr::T(Schema::OneOf(either))) = &content.schema
            && let Some(given) = either.items.iter().find(|it| !is_null(it))
        {
            content.schema = Some(given.clone());
        }
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    let null = SchemaType::Type(Type::Null);
    matches!(schema, RefOr::T(Schema::Object(object)) if object.schema_type == null)
}

/// Closes the schemas of the bodies of requests, and those that they are made of.
pub(super) fn close<'o>(operations: impl Iterator<Item = &'o Operation>, schemas: &mut Schemas) {
    let mut open = Vec::new();
    for operation in operations {
        let Some(RefOr::T(body)) = &operation.request_body else {
            continue;
        };
        for content in body.content.values() {
            if let RefOr::T(content) = content
                && let Some(schema) = &content.schema
            {
                note(schema, &mut open);
            }
        }
    }
    let mut closed = BTreeSet::new();
    while let Some(name) = open.pop() {
        if !closed.insert(name.clone()) {
            continue;
        }
        let Some(RefOr::T(schema)) = schemas.get_mut(&name) else {
            continue;
        };
        if let Schema::Object(object) = schema
            && !object.properties.is_empty()
        {
            let no_others = AdditionalProperties::FreeForm(false);
            object.additional_properties = Some(Box::new(no_others));
        }
        note(&RefOr::T(schema.clone()), &mut open);
    }
}

/// Notes the names of the schemas that a schema refers to.
fn note(schema: &RefOr<Schema>, names: &mut Vec<String>) {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next();
            names.extend(name.map(str::to_owned));
        }
        RefOr::T(Schema::Object(object)) => {
            for property in object.properties.values() {
                note(property, names);
            }
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &array.items {
                note(items, names);
            }
        }
        RefOr::T(Schema::OneOf(either)) => {
            for item in &either.items {
                note(item, names);
            }
        }
        RefOr::T(_) => {}
    }
}
