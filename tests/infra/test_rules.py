"""The templates keep the house rules, and each rule finds the mistakes that it is there for."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.infra import rules
from tests.infra.rules import RULES, Rule, Templates

GONE = object()


class Mistake(NamedTuple):
    """What somebody may get wrong: at a place (stack/logical id/property/…) stands something else, or nothing."""

    rule: Rule
    place: str
    value: Any = GONE


ANYBODY = {"Sid": "Extra", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn"}
OPEN = {"IpProtocol": "tcp", "FromPort": 5439, "ToPort": 5439, "CidrIp": "0.0.0.0/0", "Description": "all"}
OUT = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0", "Description": "all"}
DELETE_RAW = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${RawBucketName}/raw/*"}
LOADER = "access/LoaderPolicy/Properties/PolicyDocument/Statement"
ANALYST = "access/AnalystPolicy/Properties/PolicyDocument/Statement"
ENGINEER = "access/EngineerPolicy/Properties/PolicyDocument/Statement"
ERASER = "access/EraserPolicy/Properties/PolicyDocument/Statement"
LEDGER = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${VaultBucketName}/erasure_ledger/*"}
VAULT = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${VaultBucketName}/*"}
WHOLE_LAYER = {"Table": {"DatabaseName": {"Ref": "CuratedDatabaseName"}, "TableWildcard": {}}}

REPLICATION = rules.replication_is_private_and_leaves_the_source_as_it_is
MISTAKES = [
    Mistake(rules.buckets_are_encrypted_by_our_keys, "storage/RawBucket/Properties/BucketEncryption"),
    Mistake(
        rules.buckets_are_encrypted_by_our_keys,
        "storage/RawBucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration/0/ServerSideEncryptionByDefault",
        {"SSEAlgorithm": "AES256"},
    ),
    Mistake(
        rules.buckets_are_encrypted_by_our_keys,
        "storage/CuratedBucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration/0/BucketKeyEnabled",
        False,
    ),
    Mistake(rules.buckets_are_encrypted_by_our_keys, "storage/LogsBucket/Properties/BucketEncryption"),
    Mistake(
        rules.the_vault_has_a_key_of_its_own,
        "storage/VaultBucket/Properties/BucketEncryption/ServerSideEncryptionConfiguration/0/"
        "ServerSideEncryptionByDefault/KMSMasterKeyID",
        {"Ref": "LakeKmsKeyId"},
    ),
    Mistake(
        rules.buckets_are_private,
        "storage/RefinedBucket/Properties/PublicAccessBlockConfiguration/BlockPublicPolicy",
        False,
    ),
    Mistake(rules.buckets_are_private, "storage/ResultsBucket/Properties/PublicAccessBlockConfiguration"),
    Mistake(rules.buckets_are_private, "storage/RawBucket/Properties/OwnershipControls"),
    Mistake(rules.buckets_keep_versions_and_let_them_go, "storage/RawBucket/Properties/VersioningConfiguration"),
    Mistake(rules.buckets_keep_versions_and_let_them_go, "storage/RawBucket/Properties/LifecycleConfiguration/Rules/0"),
    Mistake(
        rules.buckets_keep_versions_and_let_them_go,
        "storage/VaultBucket/Properties/LifecycleConfiguration/Rules/0/Status",
        "Disabled",
    ),
    Mistake(rules.buckets_log_access, "storage/CuratedBucket/Properties/LoggingConfiguration"),
    Mistake(rules.buckets_take_tls_only, "storage/RawBucketPolicy"),
    Mistake(
        rules.buckets_take_tls_only, "storage/VaultBucketPolicy/Properties/PolicyDocument/Statement/0/Effect", "Allow"
    ),
    Mistake(
        rules.buckets_take_tls_only,
        "storage/VaultBucketPolicy/Properties/PolicyDocument/Statement/0/Condition/Bool/aws:SecureTransport",
        "true",
    ),
    Mistake(rules.buckets_refuse_other_keys, "storage/VaultBucketPolicy/Properties/PolicyDocument/Statement/1"),
    Mistake(rules.what_holds_data_is_kept, "storage/RawBucket/DeletionPolicy"),
    Mistake(rules.what_holds_data_is_kept, "keys/VaultKey/UpdateReplacePolicy", "Delete"),
    Mistake(rules.what_holds_data_is_kept, "ingestion/MaskingKeySecret/DeletionPolicy"),
    Mistake(rules.what_holds_data_is_kept, "warehouse/Namespace/DeletionPolicy", "Retain"),
    Mistake(rules.keys_rotate, "keys/LakeKey/Properties/EnableKeyRotation", False),
    Mistake(rules.keys_rotate, "keys/VaultKey/Properties/PendingWindowInDays", 7),
    Mistake(rules.wildcards_have_a_reason, f"{LOADER}/0/Action", "s3:*"),
    Mistake(rules.wildcards_have_a_reason, f"{LOADER}/0/Resource", "*"),
    Mistake(rules.wildcards_have_a_reason, f"{LOADER}/0/Resource", {"Fn::Sub": "arn:${AWS::Partition}:s3:::*"}),
    Mistake(rules.wildcards_have_a_reason, "orchestration/AirflowRole/Metadata/Reasons/Queue"),
    Mistake(rules.wildcards_have_a_reason, "orchestration/AirflowRole/Metadata/Reasons/Queue", "todo"),
    Mistake(rules.wildcards_have_a_reason, "keys/LakeKey/Metadata/Reasons/Nothing", "a reason that nothing needs"),
    Mistake(rules.policies_say_what_they_allow, f"{LOADER}/0/NotAction", ["iam:*"]),
    Mistake(
        rules.policies_say_what_they_allow, "storage/RawBucketPolicy/Properties/PolicyDocument/Statement/0", ANYBODY
    ),
    Mistake(
        rules.roles_trust_somebody_in_particular,
        "warehouse/SpectrumRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition",
    ),
    Mistake(
        rules.roles_trust_somebody_in_particular,
        "access/AnalystRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal",
        {"AWS": "*"},
    ),
    Mistake(
        rules.roles_trust_somebody_in_particular,
        "access/OperatorRole/Properties/AssumeRolePolicyDocument/Statement/0/Condition",
    ),
    Mistake(
        rules.no_policies_of_aws_and_no_users,
        "access/TransformerRole/Properties/ManagedPolicyArns",
        ["arn:${AWS::Partition}:iam::aws:policy/AmazonS3FullAccess"],
    ),
    Mistake(rules.no_policies_of_aws_and_no_users, "access/Somebody", {"Type": "AWS::IAM::User"}),
    Mistake(rules.nobody_passes_roles, f"{LOADER}/0/Action", ["iam:PassRole"]),
    Mistake(rules.raw_is_deleted_by_keeper_and_eraser_alone, f"{LOADER}/0/Action", ["s3:PutObject", "s3:DeleteObject"]),
    Mistake(
        rules.raw_is_deleted_by_keeper_and_eraser_alone,
        "access/KeeperPolicy/Properties/PolicyDocument/Statement/0/Action",
        ["s3:DeleteObjectVersion"],
    ),
    Mistake(rules.raw_is_deleted_by_keeper_and_eraser_alone, f"{ERASER}/2/Resource", DELETE_RAW),
    Mistake(
        rules.people_alone_erase_and_make_keys,
        "orchestration/AirflowRole/Properties/ManagedPolicyArns/0",
        {"Ref": "EraserPolicyArn"},
    ),
    Mistake(
        rules.people_alone_erase_and_make_keys,
        "access/KeyMakerRole/Properties/AssumeRolePolicyDocument/Statement/0/Principal",
        {"Service": "ecs-tasks.amazonaws.com"},
    ),
    Mistake(
        rules.the_ledger_of_erasure_is_kept_apart,
        "access/KeyMakerPolicy/Properties/PolicyDocument/Statement/0/Resource",
        LEDGER,
    ),
    Mistake(
        rules.the_ledger_of_erasure_is_kept_apart,
        "access/TransformerPolicy/Properties/PolicyDocument/Statement/0/Resource",
        VAULT,
    ),
    Mistake(rules.the_ledger_of_erasure_is_kept_apart, f"{LOADER}/0/Resource", LEDGER),
    Mistake(
        rules.people_have_no_right_on_curated_objects,
        f"{ENGINEER}/7/Resource",
        {"Fn::Sub": "s3:::${CuratedBucketName}/x"},
    ),
    Mistake(
        rules.people_have_no_right_on_curated_objects,
        f"{ERASER}/2/Resource",
        {"Fn::Sub": "arn:${AWS::Partition}:s3:::${CuratedBucketName}/tables/*"},
    ),
    Mistake(rules.readers_see_no_more_than_their_layers, f"{ANALYST}/3/Resource", DELETE_RAW),
    Mistake(
        rules.readers_see_no_more_than_their_layers,
        f"{ANALYST}/2/Resource/1",
        {"Fn::Sub": "arn:${AWS::Partition}:glue:x:y:database/${CuratedDatabaseName}"},
    ),
    Mistake(rules.readers_see_no_more_than_their_layers, f"{ENGINEER}/3/Resource", DELETE_RAW),
    Mistake(rules.people_read_tables_by_tags_alone, "access/EngineersRead/Properties/Resource", WHOLE_LAYER),
    Mistake(
        rules.people_read_tables_by_tags_alone,
        "access/EngineersRead/Properties/Resource/LFTagPolicy/Expression/0/TagValues",
        ["staging"],
    ),
    Mistake(rules.people_read_tables_by_tags_alone, "access/AnalystsRead/Properties/Resource/LFTagPolicy/Expression/1"),
    Mistake(
        rules.people_read_tables_by_tags_alone,
        "access/AnalystsRead/Properties/Resource/LFTagPolicy/Expression/0/TagValues",
        ["refined", "curated"],
    ),
    Mistake(
        rules.people_read_tables_by_tags_alone, "access/AnalystsSeeRefined/Properties/Permissions", ["CREATE_TABLE"]
    ),
    Mistake(
        rules.people_read_tables_by_tags_alone,
        "access/AnalystsSeeRefined/Properties/Resource/Database/Name",
        {"Ref": "CuratedDatabaseName"},
    ),
    Mistake(
        rules.catalogue_is_closed_by_default,
        "catalogue/LakeSettings/Properties/CreateTableDefaultPermissions",
        [{"Principal": {"DataLakePrincipalIdentifier": "IAM_ALLOWED_PRINCIPALS"}, "Permissions": ["ALL"]}],
    ),
    Mistake(rules.catalogue_is_closed_by_default, "catalogue/LakeSettings"),
    Mistake(rules.catalogue_is_closed_by_default, "catalogue/CuratedDatabase/DependsOn"),
    Mistake(
        rules.catalogue_is_closed_by_default,
        "access/AnalystsRead/Properties/PermissionsWithGrantOption",
        ["SELECT"],
    ),
    Mistake(rules.logs_end_and_are_encrypted, "orchestration/TaskLogGroup/Properties/RetentionInDays"),
    Mistake(rules.logs_end_and_are_encrypted, "network/FlowLogGroup/Properties/KmsKeyId"),
    Mistake(rules.streams_are_encrypted, "ingestion/ChangeStream/Properties/StreamEncryption"),
    Mistake(rules.streams_are_encrypted, "ingestion/ChangeStream/Properties/RetentionPeriodHours", 24),
    Mistake(
        rules.streams_are_encrypted,
        "ingestion/Delivery/Properties/ExtendedS3DestinationConfiguration/EncryptionConfiguration",
    ),
    Mistake(
        rules.streams_are_encrypted,
        "ingestion/Delivery/Properties/ExtendedS3DestinationConfiguration/ErrorOutputPrefix",
        "raw/customer/usuarios/",
    ),
    Mistake(REPLICATION, "ingestion/ReplicationInstance/Properties/PubliclyAccessible", True),
    Mistake(REPLICATION, "ingestion/CustomerEndpoint/Properties/SslMode", "none"),
    Mistake(REPLICATION, "ingestion/CustomerEndpoint/Properties/PostgreSqlSettings/CaptureDdls", True),
    Mistake(REPLICATION, "ingestion/CustomerEndpoint/Properties/Password", "made-up"),
    Mistake(REPLICATION, "ingestion/StreamEndpoint/Properties/KinesisSettings/IncludeTransactionDetails", False),
    Mistake(rules.topics_are_encrypted_and_take_tls_only, "observability/Alerts/Properties/KmsMasterKeyId"),
    Mistake(rules.topics_are_encrypted_and_take_tls_only, "observability/AlertsPolicy"),
    Mistake(
        rules.queries_are_limited_and_encrypted,
        "query/AnalystsWorkGroup/Properties/WorkGroupConfiguration/BytesScannedCutoffPerQuery",
    ),
    Mistake(
        rules.queries_are_limited_and_encrypted,
        "query/EngineersWorkGroup/Properties/WorkGroupConfiguration/EnforceWorkGroupConfiguration",
        False,
    ),
    Mistake(
        rules.queries_are_limited_and_encrypted,
        "query/DbtWorkGroup/Properties/WorkGroupConfiguration/ResultConfiguration/EncryptionConfiguration",
    ),
    Mistake(rules.warehouse_is_private_and_bounded, "warehouse/Workgroup/Properties/PubliclyAccessible", True),
    Mistake(rules.warehouse_is_private_and_bounded, "warehouse/Workgroup/Properties/EnhancedVpcRouting"),
    Mistake(rules.warehouse_is_private_and_bounded, "warehouse/Workgroup/Properties/ConfigParameters/0"),
    Mistake(rules.warehouse_is_private_and_bounded, "warehouse/Workgroup/Properties/MaxCapacity"),
    Mistake(rules.warehouse_is_private_and_bounded, "warehouse/Namespace/Properties/KmsKeyId"),
    Mistake(rules.warehouse_is_private_and_bounded, "warehouse/Namespace/Properties/AdminUserPassword", "made-up"),
    Mistake(rules.airflow_is_private_and_logs, "orchestration/Airflow/Properties/WebserverAccessMode", "PUBLIC_ONLY"),
    Mistake(rules.airflow_is_private_and_logs, "orchestration/Airflow/Properties/KmsKey"),
    Mistake(
        rules.airflow_is_private_and_logs, "orchestration/Airflow/Properties/LoggingConfiguration/DagProcessingLogs"
    ),
    Mistake(rules.network_lets_nobody_in, "network/WarehouseSecurityGroup/Properties/SecurityGroupIngress/0", OPEN),
    Mistake(rules.network_lets_nobody_in, "network/AirflowSecurityGroup/Properties/SecurityGroupEgress/0", OUT),
    Mistake(rules.network_lets_nobody_in, "network/DashboardSecurityGroup/Properties/SecurityGroupEgress"),
    Mistake(rules.network_lets_nobody_in, "network/PrivateSubnetA/Properties/MapPublicIpOnLaunch", True),
    Mistake(rules.network_lets_nobody_in, "network/FlowLog"),
    Mistake(rules.secrets_are_nowhere_in_a_template, "ingestion/CustomerDsnSecret/Properties/SecretString", "made-up"),
    Mistake(rules.secrets_are_nowhere_in_a_template, "ingestion/MaskingKeySecret/Properties/KmsKeyId"),
    Mistake(
        rules.secrets_are_nowhere_in_a_template,
        "ingestion/Parameters/CustomerPassword",
        {"Type": "String", "Description": "x"},
    ),
    Mistake(
        rules.dashboards_read_refined_over_tls, "consumption/Warehouse/Properties/SslProperties", {"DisableSsl": True}
    ),
    Mistake(
        rules.dashboards_read_refined_over_tls,
        "consumption/UsersByState/Properties/PhysicalTableMap/mart-users-by-state/RelationalTable/Schema",
        "curated",
    ),
    Mistake(
        rules.dashboards_are_copies_that_viewers_only_see,
        "consumption/UsersByState/Properties/ImportMode",
        "DIRECT_QUERY",
    ),
    Mistake(rules.dashboards_are_copies_that_viewers_only_see, "consumption/UserSegmentsDaily"),
    Mistake(
        rules.dashboards_are_copies_that_viewers_only_see,
        "consumption/MediaDashboard/Properties/Permissions/1/Fn::If/1/Actions",
        ["quicksight:DescribeDashboard", "quicksight:UpdateDashboard"],
    ),
    Mistake(
        rules.dashboards_are_copies_that_viewers_only_see,
        "consumption/CustomerDashboard/Properties/Permissions/0/Principal",
        {"Ref": "DashboardViewerArn"},
    ),
    Mistake(rules.notebooks_are_private, "consumption/Notebook/Properties/DirectInternetAccess", "Enabled"),
    Mistake(rules.notebooks_are_private, "consumption/Notebook/Properties/KmsKeyId"),
    Mistake(rules.alarms_reach_people, "observability/SlotLagAlarm/Properties/AlarmActions", []),
    Mistake(rules.alarms_reach_people, "observability/RunCutAlarm/Properties/TreatMissingData"),
    Mistake(rules.every_trouble_has_an_alarm, "observability/RowsRejectedAlarm"),
    Mistake(
        rules.every_trouble_has_an_alarm, "observability/NoSuccessAlarm/Properties/TreatMissingData", "notBreaching"
    ),
    Mistake(rules.every_trouble_has_an_alarm, "observability/NoSuccessAlarm/Properties/EvaluationPeriods", 12),
    Mistake(rules.every_trouble_has_an_alarm, "observability/SourceStaleFilter"),
    Mistake(rules.every_trouble_has_an_alarm, "observability/SlotLagFilter/Properties/FilterPattern", '"slot lag"'),
    Mistake(rules.cost_is_watched, "billing/Budget"),
    Mistake(rules.cost_is_watched, "billing/Budget/Properties/NotificationsWithSubscribers/1"),
    Mistake(
        rules.templates_name_no_place,
        "access/AnalystRole/Properties/RoleName",
        "arn:aws:iam::111122223333:role/analyst",
    ),
    Mistake(rules.templates_name_no_place, "storage/RawBucket/Properties/BucketName", "lakehouse-sa-east-1"),
    Mistake(rules.templates_explain_themselves, "query/Parameters/AnalystScanLimitBytes/Description"),
    Mistake(rules.templates_explain_themselves, "access/LoaderRole/Properties/Description"),
    Mistake(rules.policies_are_no_longer_than_iam_takes, f"{LOADER}/0/Resource", [f"arn:{'x' * 100}"] * 60),
]


def make(mistake: Mistake, templates: Templates) -> Templates:
    """A copy of the templates with the mistake."""
    stack, *path = mistake.place.split("/")
    changed = {**templates, stack: copy.deepcopy(templates[stack])}
    node: Any = changed[stack] if path[0] == "Parameters" else changed[stack]["Resources"]
    for step in path[:-1]:
        node = node[int(step) if isinstance(node, list) else step]
    last = int(path[-1]) if isinstance(node, list) else path[-1]
    if mistake.value is GONE:
        del node[last]
    else:
        node[last] = mistake.value
    return changed


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_templates_keep_the_rule(rule: Rule, templates: Templates) -> None:
    assert list(rule(templates)) == []


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: f"{mistake.rule.__name__}-{mistake.place}")
def test_the_rule_finds_the_mistake(mistake: Mistake, templates: Templates) -> None:
    assert list(mistake.rule(make(mistake, templates)))


def test_there_is_a_mistake_for_every_rule(templates: Templates, counted: Callable[[str], None]) -> None:
    written = re.findall(
        r"^def (\w+)\(templates: Templates\) -> Iterator\[str\]", Path(rules.__file__).read_text(), re.MULTILINE
    )
    assert [rule.__name__ for rule in RULES] == written
    assert {mistake.rule for mistake in MISTAKES} == set(RULES)
    resources = sum(len(template["Resources"]) for template in templates.values())
    counted(f"templates:   {len(templates)} stacks, {resources} resources")
    counted(f"house rules: {len(RULES)} kept; {len(MISTAKES)} seeded mistakes, all found")
