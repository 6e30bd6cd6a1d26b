//! The gate in front of a route: finds out who calls, and lets in those whom the route is for.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{extract::Request, response::IntoResponse, response::Response};
use futures_util::future::Either;
use tower::{Layer, Service};

use super::{
    caller::Caller,
    check::{Auth, Judged},
    who::Who,
};
use crate::http::peer::{Peer, TrustedProxies};

/// Lets callers in to one route. The handler takes its [`super::Caller`] as an argument.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) auth: Arc<Auth>,
    pub(crate) proxies: TrustedProxies,
    pub(crate) who: Who,
}

/// From where a caller calls. Known where what callers change is on record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallsFrom(pub(crate) IpAddr);

impl Gate {
    fn admit(&self, request: &mut Request, caller: Caller) {
        if self.who.is_on_record()
            && let Some(peer) = request.extensions().get::<Peer>()
        {
            let client = self.proxies.client(*peer, request.headers());
            request.extensions_mut().insert(CallsFrom(client));
        }
        request.extensions_mut().insert(caller);
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated {
            gate: Arc::new(self.clone()),
            inner,
        }
    }
}

/// A route behind its gate.
#[derive(Clone)]
pub(crate) struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

type Answer = Result<Response, Infallible>;
type Later = Pin<Box<dyn Future<Output = Answer> + Send>>;

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    /// Mostly the route's own future: only a token whose key is not known has to wait for an answer.
    type Future = Either<S::Future, Either<Ready<Answer>, Later>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let Gate { auth, proxies, who } = &*self.gate;
        let client = || {
            let peer: Peer = *request.extensions().get()?;
            Some(proxies.client(peer, request.headers()))
        };
        let unsure = match auth.judge(*who, request.headers(), client) {
            Judged::Decided(Ok(caller)) => {
                self.gate.admit(&mut request, caller);
                return Either::Left(self.inner.call(request));
            }
            Judged::Decided(Err(problem)) => {
                return Either::Right(Either::Left(ready(Ok(problem.into_response()))));
            }
            Judged::Unsure(unsure) => unsure,
        };
        let client = client();
        let gate = Arc::clone(&self.gate);
        // The one that is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        Either::Right(Either::Right(Box::pin(async move {
            let judged = gate.auth.judge_with_newer_keys(gate.who, unsure, client);
            match judged.await {
                Ok(caller) => {
                    gate.admit(&mut request, caller);
                    inner.call(request).await
                }
                Err(problem) => Ok(problem.into_response()),
            }
        })))
    }
}
