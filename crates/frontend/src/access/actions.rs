//! What operations are called where rights are given, and which of them a policy may give to another account.

use std::borrow::Cow;

use hyper::Method;

/// Operations that a function's policy lets others do. Source: docs.aws.amazon.com/lambda/latest/dg/access-control-resource-based.html,
/// "Granting function access to other accounts".
const ACROSS: [&str; 28] = [
    "CreateAlias",
    "DeleteAlias",
    "DeleteFunction",
    "DeleteFunctionConcurrency",
    "DeleteFunctionEventInvokeConfig",
    "DeleteProvisionedConcurrencyConfig",
    "GetAlias",
    "GetFunction",
    "GetFunctionConcurrency",
    "GetFunctionConfiguration",
    "GetFunctionEventInvokeConfig",
    "GetPolicy",
    "GetProvisionedConcurrencyConfig",
    "Invoke",
    "InvokeAsync",
    "InvokeWithResponseStream",
    "ListAliases",
    "ListFunctionEventInvokeConfigs",
    "ListProvisionedConcurrencyConfigs",
    "ListTags",
    "ListVersionsByFunction",
    "PublishVersion",
    "PutFunctionConcurrency",
    "PutFunctionEventInvokeConfig",
    "PutProvisionedConcurrencyConfig",
    "UpdateAlias",
    "UpdateFunctionCode",
    "UpdateFunctionEventInvokeConfig",
];

/// The action that an operation of Lambda is.
pub(super) fn of(operation: &str) -> Cow<'static, str> {
    match operation {
        "Invoke" | "InvokeWithResponseStream" => "lambda:InvokeFunction".into(),
        "GetLayerVersionByArn" => "lambda:GetLayerVersion".into(),
        other => format!("lambda:{other}").into(),
    }
}

/// Whether a function's policy may let another account do it.
pub(super) fn crosses(operation: &str) -> bool {
    ACROSS.contains(&operation)
}

/// Whether it is about the function's policy itself: no policy keeps the function's own account from changing it.
pub(super) fn is_of_policies(operation: &str) -> bool {
    operation.ends_with("Policy") || operation.ends_with("Permission")
}

/// The action that a request to the Scheduler is.
pub(crate) fn of_scheduler(method: &Method, path: &str) -> String {
    let mut parts = path.trim_matches('/').split('/');
    let what = if parts.next() == Some("schedule-groups") { "ScheduleGroup" } else { "Schedule" };
    match (method, parts.next()) {
        (&Method::GET, None) => format!("scheduler:List{what}s"),
        (&Method::GET, Some(_)) => format!("scheduler:Get{what}"),
        (&Method::PUT, _) => format!("scheduler:Update{what}"),
        (&Method::DELETE, _) => format!("scheduler:Delete{what}"),
        _ => format!("scheduler:Create{what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::OPERATIONS;

    #[test]
    fn what_may_be_given_to_others_are_operations_of_functions() {
        for name in ACROSS {
            let operation = OPERATIONS.iter().find(|operation| operation.name == name).unwrap();
            assert!(operation.path.contains("{FunctionName}") || operation.path.contains("{Resource}"));
        }
        assert_eq!(of("Invoke"), "lambda:InvokeFunction");
        assert_eq!(of_scheduler(&Method::GET, "/schedules"), "scheduler:ListSchedules");
        assert_eq!(of_scheduler(&Method::POST, "/schedule-groups/g"), "scheduler:CreateScheduleGroup");
    }
}
