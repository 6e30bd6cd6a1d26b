//! The description of the HTTP interface (OpenAPI 3.1): what a route says of itself, and what follows from who may call
//! it and from what it may be refused with.
//!
//! This is the ground of all descriptions, and knows no route. What a handler takes and answers is described beside
//! the handler.

pub(crate) mod handler;
pub(crate) mod headers;
mod introduction;
pub(crate) mod page;
pub(crate) mod parameters;
mod refusals;
mod requests;
mod samples;

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use utoipa::openapi::{
    Components, HttpMethod, OpenApi, Paths, Ref, RefOr, Schema,
    path::{Operation, Parameter},
    security::SecurityRequirement,
};

use crate::{
    auth::Who,
    http::{code::Code, observe::REQUEST_ID},
};

/// What every read may be refused with beside what its row says.
const OF_READS: &[Code] = &[Code::RateLimited];

/// What the macro that makes a handler a route knows of it, but for the handler.
pub(crate) type Described = (Vec<(String, RefOr<Schema>)>, Paths);

/// One route, described.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) path: String,
    pub(crate) method: Method,
    /// Who may call. None where nobody is asked, and nothing is counted.
    pub(crate) who: Option<Who>,
    operation: Operation,
    schemas: Vec<(String, RefOr<Schema>)>,
    refusals: BTreeSet<Code>,
}

impl Route {
    /// The route that was described, with its refusals: those of the handler, of the gate and of the limit of reads.
    ///
    /// # Panics
    /// It is not one method of one path.
    #[must_use]
    pub(crate) fn of((schemas, paths): Described, who: Option<Who>, refuses: &[&[Code]]) -> Self {
        let mut paths = paths.paths.into_iter();
        let (Some((path, item)), None) = (paths.next(), paths.next()) else {
            panic!("a route is one path");
        };
        let operations = [
            (Method::GET, item.get),
            (Method::PUT, item.put),
            (Method::POST, item.post),
            (Method::PATCH, item.patch),
            (Method::DELETE, item.delete),
        ];
        let mut operations = operations.into_iter().filter(|(_, it)| it.is_some());
        let (Some((method, Some(operation))), None) = (operations.next(), operations.next()) else {
            panic!("{path} is not one method");
        };
        let of_reads = if method == Method::GET && who.is_some() {
            OF_READS
        } else {
            &[]
        };
        let of_gate = who.map_or(&[][..], Who::refusals);
        let of_handler = refuses.iter().copied().flatten();
        let refusals = of_handler.chain(of_gate).chain(of_reads).copied().collect();
        Self {
            path,
            method,
            who,
            operation,
            schemas,
            refusals,
        }
    }

    /// The statuses that it may answer. Each has its series from the start.
    pub(crate) fn answers(&self) -> Vec<u16> {
        let described = self.operation.responses.responses.keys();
        let described = described.filter_map(|status| status.parse().ok());
        let refused = self.refusals.iter().map(|code| code.status().as_u16());
        let all: BTreeSet<_> = described.chain(refused).collect();
        all.into_iter().collect()
    }

    /// What is refused, by status.
    fn refused(&self) -> BTreeMap<u16, Vec<Code>> {
        let mut refused = BTreeMap::<_, Vec<_>>::new();
        for code in &self.refusals {
            let status = code.status().as_u16();
            refused.entry(status).or_default().push(*code);
        }
        refused
    }
}

/// Describes these routes.
#[must_use]
pub(crate) fn document<'r>(routes: impl IntoIterator<Item = &'r Route>) -> OpenApi {
    let mut document = introduction::document();
    let mut components = Components::new();
    components.security_schemes = introduction::security_schemes();
    components.headers = headers::all();
    components.parameters = [(
        parameters::REQUEST_ID.to_owned(),
        parameters::request_id().into(),
    )]
    .into();
    components.schemas.extend(refusals::schemas());
    for route in routes {
        let mut operation = route.operation.clone();
        for (status, codes) in route.refused() {
            let (name, response) = refusals::response(status, &codes);
            let reference = Ref::from_response_name(&name);
            components.responses.insert(name, response.into());
            let responses = &mut operation.responses.responses;
            responses.insert(status.to_string(), reference.into());
            components.examples.extend(refusals::examples(&codes));
        }
        requests::never_null(&mut operation);
        finish(&mut operation, route.who);
        components.schemas.extend(route.schemas.iter().cloned());
        let method = http_method(&route.method);
        document
            .paths
            .add_path_operation(&route.path, vec![method], operation);
    }
    let items = document.paths.paths.values();
    let operations = items.flat_map(|it| [&it.put, &it.post, &it.patch].into_iter().flatten());
    requests::close(operations, &mut components.schemas);
    document.components = Some(components);
    document
}

/// Adds what all operations have: the request id, the headers by their names, and who may call.
fn finish(operation: &mut Operation, who: Option<Who>) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        let named: Vec<_> = response.headers.keys().cloned().collect();
        for name in named
            .iter()
            .map(String::as_str)
            .chain([REQUEST_ID.as_str()])
        {
            let reference = headers::reference(name);
            response.headers.insert(headers::written(name), reference);
        }
    }
    let request_id = Ref::new(format!(
        "#/components/parameters/{}",
        parameters::REQUEST_ID
    ));
    let request_id: RefOr<Parameter> = RefOr::Ref(request_id);
    operation
        .parameters
        .get_or_insert_default()
        .push(request_id);
    let callers = introduction::callers(who);
    let description = operation.description.take().unwrap_or_default();
    operation.description = Some(format!("{description}\n\n{callers}").trim().to_owned());
    operation.security = Some(security(who));
}

/// Who may call, as requirements of which one has to be met.
fn security(who: Option<Who>) -> Vec<SecurityRequirement> {
    let nobody = SecurityRequirement::default();
    let bearer = |roles: &[&str]| {
        SecurityRequirement::new(introduction::BEARER, roles.iter().map(ToString::to_string))
    };
    match who {
        None => vec![nobody],
        Some(Who::Anybody) => vec![nobody, bearer(&[])],
        Some(Who::Roles { roles, open }) => {
            let each = roles.iter().map(|role| bearer(&[role.as_str()]));
            let unasked = open.then_some(nobody);
            unasked.into_iter().chain(each).collect()
        }
    }
}

fn http_method(method: &Method) -> HttpMethod {
    match *method {
        Method::PUT => HttpMethod::Put,
        Method::POST => HttpMethod::Post,
        Method::PATCH => HttpMethod::Patch,
        Method::DELETE => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }
}
