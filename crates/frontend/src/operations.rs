//! Which operations Lambda has: name, method and path of each, from botocore's `lambda/2015-03-31` model.
//!
//! Kept whole so that a call of something that Hearth lacks is answered with the name of what is lacking.

use hyper::Method;

/// One operation of the API.
#[derive(Debug)]
pub(crate) struct Operation {
    /// Its name.
    pub(crate) name: &'static str,
    /// The method it is called with.
    pub(crate) method: Method,
    /// The path it is called with, parameters in braces.
    pub(crate) path: &'static str,
    /// A query parameter that it alone of those with its method and path has.
    pub(crate) query: Option<&'static str>,
    /// Whether Hearth answers it with more than that it lacks it.
    pub(crate) answered: bool,
}

const fn op(name: &'static str, method: Method, path: &'static str) -> Operation {
    Operation { name, method, path, query: None, answered: false }
}

const fn have(name: &'static str, method: Method, path: &'static str) -> Operation {
    Operation { name, method, path, query: None, answered: true }
}

const fn with_query(mut operation: Operation, query: &'static str) -> Operation {
    operation.query = Some(query);
    operation
}

/// All of them.
#[rustfmt::skip]
pub(crate) static OPERATIONS: [Operation; 91] = [
    have("AddLayerVersionPermission", Method::POST, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy"),
    have("AddPermission", Method::POST, "/2015-03-31/functions/{FunctionName}/policy"),
    op("CheckpointDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/checkpoint"),
    have("CreateAlias", Method::POST, "/2015-03-31/functions/{FunctionName}/aliases"),
    op("CreateCapacityProvider", Method::POST, "/2025-11-30/capacity-providers"),
    have("CreateCodeSigningConfig", Method::POST, "/2020-04-22/code-signing-configs"),
    have("CreateEventSourceMapping", Method::POST, "/2015-03-31/event-source-mappings"),
    have("CreateFunction", Method::POST, "/2015-03-31/functions"),
    have("CreateFunctionUrlConfig", Method::POST, "/2021-10-31/functions/{FunctionName}/url"),
    have("DeleteAlias", Method::DELETE, "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
    op("DeleteCapacityProvider", Method::DELETE, "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    have("DeleteCodeSigningConfig", Method::DELETE, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}"),
    op("DeleteDurableExecution", Method::DELETE, "/2025-12-01/durable-executions/{DurableExecutionArn}"),
    have("DeleteEventSourceMapping", Method::DELETE, "/2015-03-31/event-source-mappings/{UUID}"),
    have("DeleteFunction", Method::DELETE, "/2015-03-31/functions/{FunctionName}"),
    have("DeleteFunctionCodeSigningConfig", Method::DELETE, "/2020-06-30/functions/{FunctionName}/code-signing-config"),
    have("DeleteFunctionConcurrency", Method::DELETE, "/2017-10-31/functions/{FunctionName}/concurrency"),
    have("DeleteFunctionEventInvokeConfig", Method::DELETE, "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    have("DeleteFunctionUrlConfig", Method::DELETE, "/2021-10-31/functions/{FunctionName}/url"),
    have("DeleteLayerVersion", Method::DELETE, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}"),
    have("DeleteProvisionedConcurrencyConfig", Method::DELETE, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency"),
    have("DeleteResourcePolicy", Method::DELETE, "/2026-07-09/resource-policy/{ResourceArn}"),
    have("GetAccountSettings", Method::GET, "/2016-08-19/account-settings"),
    have("GetAlias", Method::GET, "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
    op("GetCapacityProvider", Method::GET, "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    have("GetCodeSigningConfig", Method::GET, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}"),
    op("GetDurableExecution", Method::GET, "/2025-12-01/durable-executions/{DurableExecutionArn}"),
    op("GetDurableExecutionHistory", Method::GET, "/2025-12-01/durable-executions/{DurableExecutionArn}/history"),
    op("GetDurableExecutionState", Method::GET, "/2025-12-01/durable-executions/{DurableExecutionArn}/state"),
    have("GetEventSourceMapping", Method::GET, "/2015-03-31/event-source-mappings/{UUID}"),
    have("GetFunction", Method::GET, "/2015-03-31/functions/{FunctionName}"),
    have("GetFunctionCodeSigningConfig", Method::GET, "/2020-06-30/functions/{FunctionName}/code-signing-config"),
    have("GetFunctionConcurrency", Method::GET, "/2019-09-30/functions/{FunctionName}/concurrency"),
    have("GetFunctionConfiguration", Method::GET, "/2015-03-31/functions/{FunctionName}/configuration"),
    have("GetFunctionEventInvokeConfig", Method::GET, "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    have("GetFunctionRecursionConfig", Method::GET, "/2024-08-31/functions/{FunctionName}/recursion-config"),
    have("GetFunctionScalingConfig", Method::GET, "/2025-11-30/functions/{FunctionName}/function-scaling-config"),
    have("GetFunctionUrlConfig", Method::GET, "/2021-10-31/functions/{FunctionName}/url"),
    have("GetLayerVersion", Method::GET, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}"),
    with_query(have("GetLayerVersionByArn", Method::GET, "/2018-10-31/layers"), "find=LayerVersion"),
    have("GetLayerVersionPolicy", Method::GET, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy"),
    have("GetPolicy", Method::GET, "/2015-03-31/functions/{FunctionName}/policy"),
    have("GetProvisionedConcurrencyConfig", Method::GET, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency"),
    have("GetResourcePolicy", Method::GET, "/2026-07-09/resource-policy/{ResourceArn}"),
    have("GetRuntimeManagementConfig", Method::GET, "/2021-07-20/functions/{FunctionName}/runtime-management-config"),
    have("Invoke", Method::POST, "/2015-03-31/functions/{FunctionName}/invocations"),
    have("InvokeAsync", Method::POST, "/2014-11-13/functions/{FunctionName}/invoke-async"),
    have("InvokeWithResponseStream", Method::POST, "/2021-11-15/functions/{FunctionName}/response-streaming-invocations"),
    have("ListAliases", Method::GET, "/2015-03-31/functions/{FunctionName}/aliases"),
    op("ListCapacityProviders", Method::GET, "/2025-11-30/capacity-providers"),
    have("ListCodeSigningConfigs", Method::GET, "/2020-04-22/code-signing-configs"),
    op("ListDurableExecutionsByFunction", Method::GET, "/2025-12-01/functions/{FunctionName}/durable-executions"),
    have("ListEventSourceMappings", Method::GET, "/2015-03-31/event-source-mappings"),
    have("ListFunctionEventInvokeConfigs", Method::GET, "/2019-09-25/functions/{FunctionName}/event-invoke-config/list"),
    have("ListFunctionUrlConfigs", Method::GET, "/2021-10-31/functions/{FunctionName}/urls"),
    op("ListFunctionVersionsByCapacityProvider", Method::GET, "/2025-11-30/capacity-providers/{CapacityProviderName}/function-versions"),
    have("ListFunctions", Method::GET, "/2015-03-31/functions"),
    have("ListFunctionsByCodeSigningConfig", Method::GET, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}/functions"),
    have("ListLayerVersions", Method::GET, "/2018-10-31/layers/{LayerName}/versions"),
    have("ListLayers", Method::GET, "/2018-10-31/layers"),
    with_query(have("ListProvisionedConcurrencyConfigs", Method::GET, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency"), "List=ALL"),
    have("ListTags", Method::GET, "/2017-03-31/tags/{Resource}"),
    have("ListVersionsByFunction", Method::GET, "/2015-03-31/functions/{FunctionName}/versions"),
    op("PauseDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/pause"),
    have("PublishLayerVersion", Method::POST, "/2018-10-31/layers/{LayerName}/versions"),
    have("PublishVersion", Method::POST, "/2015-03-31/functions/{FunctionName}/versions"),
    have("PutFunctionCodeSigningConfig", Method::PUT, "/2020-06-30/functions/{FunctionName}/code-signing-config"),
    have("PutFunctionConcurrency", Method::PUT, "/2017-10-31/functions/{FunctionName}/concurrency"),
    have("PutFunctionEventInvokeConfig", Method::PUT, "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    have("PutFunctionRecursionConfig", Method::PUT, "/2024-08-31/functions/{FunctionName}/recursion-config"),
    have("PutFunctionScalingConfig", Method::PUT, "/2025-11-30/functions/{FunctionName}/function-scaling-config"),
    have("PutProvisionedConcurrencyConfig", Method::PUT, "/2019-09-30/functions/{FunctionName}/provisioned-concurrency"),
    have("PutResourcePolicy", Method::PUT, "/2026-07-09/resource-policy/{ResourceArn}"),
    have("PutRuntimeManagementConfig", Method::PUT, "/2021-07-20/functions/{FunctionName}/runtime-management-config"),
    have("RemoveLayerVersionPermission", Method::DELETE, "/2018-10-31/layers/{LayerName}/versions/{VersionNumber}/policy/{StatementId}"),
    have("RemovePermission", Method::DELETE, "/2015-03-31/functions/{FunctionName}/policy/{StatementId}"),
    op("ResumeDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/resume"),
    op("SendDurableExecutionCallbackFailure", Method::POST, "/2025-12-01/durable-execution-callbacks/{CallbackId}/fail"),
    op("SendDurableExecutionCallbackHeartbeat", Method::POST, "/2025-12-01/durable-execution-callbacks/{CallbackId}/heartbeat"),
    op("SendDurableExecutionCallbackSuccess", Method::POST, "/2025-12-01/durable-execution-callbacks/{CallbackId}/succeed"),
    op("StopDurableExecution", Method::POST, "/2025-12-01/durable-executions/{DurableExecutionArn}/stop"),
    have("TagResource", Method::POST, "/2017-03-31/tags/{Resource}"),
    have("UntagResource", Method::DELETE, "/2017-03-31/tags/{Resource}"),
    have("UpdateAlias", Method::PUT, "/2015-03-31/functions/{FunctionName}/aliases/{Name}"),
    op("UpdateCapacityProvider", Method::PUT, "/2025-11-30/capacity-providers/{CapacityProviderName}"),
    have("UpdateCodeSigningConfig", Method::PUT, "/2020-04-22/code-signing-configs/{CodeSigningConfigArn}"),
    have("UpdateEventSourceMapping", Method::PUT, "/2015-03-31/event-source-mappings/{UUID}"),
    have("UpdateFunctionCode", Method::PUT, "/2015-03-31/functions/{FunctionName}/code"),
    have("UpdateFunctionConfiguration", Method::PUT, "/2015-03-31/functions/{FunctionName}/configuration"),
    have("UpdateFunctionEventInvokeConfig", Method::POST, "/2019-09-25/functions/{FunctionName}/event-invoke-config"),
    have("UpdateFunctionUrlConfig", Method::PUT, "/2021-10-31/functions/{FunctionName}/url"),
];

#[cfg(test)]
mod tests;
