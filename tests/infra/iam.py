"""What a policy of a template allows, asked the way AWS decides: an action on an ARN, in a context.

Only what our policies use: Allow statements, wildcards, `Ref`, `Fn::Sub`, and the condition StringEquals.
"""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from tests.infra.rules import Templates, listed


class Call(NamedTuple):
    """A request to AWS as IAM sees it."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


class Policy:
    """The managed policies of these names together, with the values that their references stand for."""

    def __init__(self, templates: Templates, names: list[str], values: Mapping[str, str]) -> None:
        resources = templates["access"]["Resources"]
        self.values = values
        self.statements = [
            statement
            for name in names
            for statement in resources[f"{name}Policy"]["Properties"]["PolicyDocument"]["Statement"]
        ]

    def allows(self, call: Call) -> bool:
        return any(
            statement["Effect"] == "Allow"
            and any(fnmatchcase(call.action, pattern) for pattern in listed(statement["Action"]))
            and any(fnmatchcase(call.resource, self._text(pattern)) for pattern in listed(statement["Resource"]))
            and self._holds(statement.get("Condition", {}), dict(call.context))
            for statement in self.statements
        )

    @property
    def actions(self) -> set[str]:
        return {action for statement in self.statements for action in listed(statement["Action"])}

    def _holds(self, condition: Mapping[str, Any], context: Mapping[str, str]) -> bool:
        assert condition.keys() <= {"StringEquals"}, f"not evaluated here: {condition}"
        wanted = condition.get("StringEquals", {})
        return all(context.get(key) in [self._text(value) for value in listed(held)] for key, held in wanted.items())

    def _text(self, value: Any) -> str:
        if isinstance(value, dict):
            value = f"${{{value['Ref']}}}" if "Ref" in value else value["Fn::Sub"]
        return re.sub(r"\$\{([\w:]+)\}", lambda found: self.values[found[1]], value)


def calls(operation: str, params: Mapping[str, Any], keys: Mapping[str, str]) -> Iterator[Call]:
    """What IAM is asked for a request of boto3 in us-east-1; `keys` names the KMS key of each bucket and secret.

    Raises KeyError for an operation that nobody has looked up: Service Authorization Reference, Amazon S3 User Guide
    ("Required permissions for Amazon S3 API operations").
    """
    if operation == "GetSecretValue":
        secret = params["SecretId"]
        yield Call("secretsmanager:GetSecretValue", secret)
        through = ("kms:ViaService", "secretsmanager.us-east-1.amazonaws.com")
        yield Call("kms:Decrypt", keys[secret], (("kms:EncryptionContext:SecretARN", secret), through))
        return
    bucket = f"arn:aws:s3:::{params['Bucket']}"
    if operation == "ListObjectsV2":
        yield Call("s3:ListBucket", bucket)
        return
    if operation == "ListObjectVersions":
        yield Call("s3:ListBucketVersions", bucket)
        return
    if operation == "DeleteObjects":
        for item in params["Delete"]["Objects"]:
            action = "s3:DeleteObjectVersion" if "VersionId" in item else "s3:DeleteObject"
            yield Call(action, f"{bucket}/{item['Key']}")
        return
    place = f"{bucket}/{params['Key']}"
    reads, writes = [("s3:GetObject", "kms:Decrypt")], [("s3:PutObject", "kms:GenerateDataKey")]
    needed = {
        "GetObject": reads,
        "HeadObject": reads,
        "PutObject": writes + (reads if "IfMatch" in params else []),  # it compares with what is there
        "CreateMultipartUpload": writes,
        "UploadPart": [*writes, ("s3:PutObject", "kms:Decrypt")],  # parts are put together by who may read them
        "CompleteMultipartUpload": [("s3:PutObject", "kms:Decrypt")],
        "AbortMultipartUpload": [("s3:AbortMultipartUpload", "kms:Decrypt")],
    }[operation]
    for action, key_action in needed:
        yield Call(action, place)
        yield Call(key_action, keys[params["Bucket"]], (("kms:ViaService", "s3.us-east-1.amazonaws.com"),))
    if operation in ("GetObject", "HeadObject"):
        yield Call("s3:ListBucket", bucket)  # else S3 says 403 and not 404 of what is not there
