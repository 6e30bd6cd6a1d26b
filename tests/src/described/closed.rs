//! Schemas of answers, closed: a member that is not described is a fault.
//!
//! The published schemas are open, because clients have to survive new members. A test must not, or nothing would
//! keep the description complete.

use serde_json::{Map, Value, json};

/// What the name of a schema ends with that others are put together from. It lets their members pass.
const PART: &str = ".part";
const SCHEMAS: &str = "#/components/schemas/";

/// Closes all schemas of a description. Each also stays there as a part of others.
pub(super) fn close_all(schemas: &mut Map<String, Value>) {
    let mut parts = Map::new();
    for (name, schema) in schemas.iter_mut() {
        let mut part = schema.clone();
        close_members(&mut part);
        parts.insert(format!("{name}{PART}"), part);
        close(schema);
    }
    schemas.append(&mut parts);
}

/// Closes a schema and all that it is made of.
pub(super) fn close(schema: &mut Value) {
    close_members(schema);
    let has = |name| schema.get(name).is_some();
    if has("properties") || has("allOf") {
        schema["unevaluatedProperties"] = json!(false);
    }
}

/// Closes what a schema is made of.
fn close_members(schema: &mut Value) {
    let members = schema.get_mut("properties").and_then(Value::as_object_mut);
    members.into_iter().flatten().for_each(|(_, it)| close(it));
    if let Some(items) = schema.get_mut("items") {
        close(items);
    }
    for choice in ["oneOf", "anyOf"] {
        let choices = schema.get_mut(choice).and_then(Value::as_array_mut);
        choices.into_iter().flatten().for_each(close);
    }
    let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
    for part in parts.into_iter().flatten() {
        match part.get_mut("$ref") {
            Some(Value::String(reference)) if reference.starts_with(SCHEMAS) => {
                reference.push_str(PART);
            }
            _ => close_members(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(value: &Value) -> bool {
        let mut schemas = json!({
            "Core": {"type": "object", "properties": {"a": {"type": "integer"}}},
            "Whole": {"allOf": [{"$ref": "#/components/schemas/Core"}, {"properties": {"b": {"$ref": "#/components/schemas/Core"}}}]},
            "Either": {"oneOf": [{"$ref": "#/components/schemas/Whole"}, {"type": "null"}]},
        });
        close_all(schemas.as_object_mut().expect("an object"));
        let mut schema = json!({"type": "array", "items": {"$ref": "#/components/schemas/Either"}});
        close(&mut schema);
        schema["components"] = json!({"schemas": schemas});
        jsonschema::is_valid(&schema, value)
    }

    #[test]
    fn only_members_that_are_described_pass_however_a_schema_is_put_together() {
        assert!(fits(&json!([{"a": 1, "b": {"a": 2}}, null, {}])));
        for wrong in [
            json!([{"a": 1, "c": 1}]),
            json!([{"b": {"a": 1, "b": 1}}]),
            json!([{"a": "x"}]),
        ] {
            assert!(!fits(&wrong), "{wrong}");
        }
    }
}
