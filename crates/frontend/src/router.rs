//! Which operation a method and a path mean.

use hyper::Method;

use crate::operations::{OPERATIONS, Operation};

/// Paths of Lambda's API.
#[derive(Debug)]
pub(crate) struct Router {
    paths: matchit::Router<Vec<&'static Operation>>,
}

/// What a request is for.
#[derive(Debug)]
pub(crate) enum Route<'a> {
    /// An operation, and the first three parameters of its path, still encoded; empty where it has fewer.
    Operation(&'static Operation, [&'a str; 3]),
    /// The path exists, but not with that method.
    WrongMethod,
    /// Nothing.
    Unknown,
}

impl Router {
    pub(crate) fn new() -> Self {
        let mut by_path: Vec<(&'static str, Vec<&'static Operation>)> = Vec::new();
        for operation in &OPERATIONS {
            match by_path.iter_mut().find(|(path, _)| *path == operation.path) {
                Some((_, operations)) => operations.push(operation),
                None => by_path.push((operation.path, vec![operation])),
            }
        }
        let mut paths = matchit::Router::new();
        for (path, mut operations) in by_path {
            // Those that need a query come before those that do not mind one.
            operations.sort_by_key(|operation| operation.query.is_none());
            if let Err(error) = paths.insert(path, operations) {
                tracing::error!(path, %error, "a path of the model cannot be routed");
            }
        }
        Self { paths }
    }

    pub(crate) fn route<'a>(&self, method: &Method, path: &'a str, query: &str) -> Route<'a> {
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        let Ok(found) = self.paths.at(trimmed) else { return Route::Unknown };
        let fits = |operation: &&&'static Operation| {
            operation.method == *method
                && operation.query.is_none_or(|wanted| query.split('&').any(|pair| pair == wanted))
        };
        match found.value.iter().find(fits) {
            Some(operation) => {
                let mut values = found.params.iter().map(|(_, value)| value);
                Route::Operation(operation, [(); 3].map(|()| values.next().unwrap_or("")))
            }
            None => Route::WrongMethod,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_the_model_is_found() {
        let router = Router::new();
        for operation in &OPERATIONS {
            let path: Vec<_> = operation
                .path
                .split('/')
                .map(|part| if part.starts_with('{') { "x" } else { part })
                .collect();
            let path = path.join("/");
            let Route::Operation(found, values) =
                router.route(&operation.method, &path, operation.query.unwrap_or(""))
            else {
                panic!("{} is not found", operation.name)
            };
            assert_eq!(found.name, operation.name);
            let parameters = operation.path.matches('{').count();
            let expected: Vec<_> = (0..3).map(|at| if at < parameters { "x" } else { "" }).collect();
            assert_eq!(values.as_slice(), expected);
        }
    }

    #[test]
    fn what_is_not_in_the_model_is_not_found() {
        let router = Router::new();
        for path in [
            "/",
            "",
            "/2015-03-31",
            "/2015-03-31/functions/a/b",
            "//",
            "/2015-03-31/functions/a/invocations/x",
        ] {
            assert!(matches!(router.route(&Method::GET, path, ""), Route::Unknown), "{path}");
        }
        let route = router.route(&Method::PATCH, "/2015-03-31/functions", "");
        assert!(matches!(route, Route::WrongMethod));
        let route = router.route(&Method::GET, "/2015-03-31/functions/", "");
        assert!(matches!(route, Route::Operation(Operation { name: "ListFunctions", .. }, ["", "", ""])));
    }
}
