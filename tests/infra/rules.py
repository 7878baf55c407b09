"""The house rules of infra/stacks: each reads all templates and says what breaks it.

A wildcard is allowed where the resource says why, in Metadata.Reasons under the statement's Sid.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Templates = dict[str, dict[str, Any]]
Rule = Callable[[Templates], Iterator[str]]

PRIVATE = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
WITH_DATA = (
    "AWS::S3::Bucket", "AWS::KMS::Key", "AWS::Kinesis::Stream", "AWS::RedshiftServerless::Namespace",
)  # fmt: skip
POLICY_TYPES = (
    "AWS::IAM::Role",
    "AWS::IAM::ManagedPolicy",
    "AWS::KMS::Key",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
)
# Every kind of trouble that somebody must hear of, and the metric that says so.
ALARMED = {
    "task_failed", "run_cut", "run_late", "model_failed", "test_failed", "source_stale", "slot_lag", "changes_missing",
    "lake_differs", "rows_rejected", "values_unreadable", "source_drifted", "test_warned", "DAGDurationSuccess",
    "TotalExecutionTime", "ComputeSeconds",
    "DeliveryToS3.DataFreshness", "FailedConversion.Records",
}  # fmt: skip

# What QuickSight takes as permissions on a resource: a viewer's or an owner's actions, all of them.
QUICKSIGHT_PERMISSIONS = (
    {"DescribeDataSource", "DescribeDataSourcePermissions", "PassDataSource"},
    {"DescribeDataSet", "DescribeDataSetPermissions", "PassDataSet", "DescribeIngestion", "ListIngestions"},
    {"DescribeDashboard", "ListDashboardVersions", "QueryDashboard"},
    {
        "DescribeDashboard", "ListDashboardVersions", "QueryDashboard", "UpdateDashboard", "DeleteDashboard",
        "UpdateDashboardPermissions", "DescribeDashboardPermissions", "UpdateDashboardPublishedVersion",
    },
)  # fmt: skip


def of_type(templates: Templates, *types: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, resource and properties of all resources of some types."""
    for stack, template in templates.items():
        for logical, resource in template["Resources"].items():
            if resource["Type"] in types:
                yield f"{stack}.{logical}", resource, resource.get("Properties", {})


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(templates: Templates, *types: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, resource and statement of all policy documents but those of trust."""
    for name, resource, properties in of_type(templates, *(types or POLICY_TYPES)):
        documents = [properties.get("PolicyDocument"), properties.get("KeyPolicy")]
        documents += [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in filter(None, documents):
            for statement in document["Statement"]:
                yield name, resource, statement


def trusts(templates: Templates) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, _, properties in of_type(templates, "AWS::IAM::Role"):
        for statement in properties["AssumeRolePolicyDocument"]["Statement"]:
            yield name, statement


def buckets_are_encrypted_by_our_keys(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::S3::Bucket"):
        rules = properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [{}])
        default = rules[0].get("ServerSideEncryptionByDefault", {})
        if name.endswith("LogsBucket"):  # S3 delivers access logs to no other
            if default.get("SSEAlgorithm") != "AES256":
                yield f"{name}: not encrypted"
        elif default.get("SSEAlgorithm") != "aws:kms" or "KMSMasterKeyID" not in default:
            yield f"{name}: not encrypted by a key of ours"
        elif rules[0].get("BucketKeyEnabled") is not True:
            yield f"{name}: without a bucket key each object costs a call to KMS"


def the_vault_has_a_key_of_its_own(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::S3::Bucket"):
        rules = properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [{}])
        key = rules[0].get("ServerSideEncryptionByDefault", {}).get("KMSMasterKeyID")
        if (key == {"Ref": "VaultKmsKeyId"}) != name.endswith("VaultBucket"):
            yield f"{name}: the vault's key is for the vault alone"


def buckets_are_private(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::S3::Bucket"):
        block = properties.get("PublicAccessBlockConfiguration", {})
        if not all(block.get(key) is True for key in PRIVATE):
            yield f"{name}: public access is not blocked"
        rules = properties.get("OwnershipControls", {}).get("Rules", [{}])
        if rules[0].get("ObjectOwnership") != "BucketOwnerEnforced":
            yield f"{name}: ACLs are possible"


def buckets_keep_versions_and_let_them_go(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::S3::Bucket"):
        if properties.get("VersioningConfiguration", {}).get("Status") != "Enabled":
            yield f"{name}: not versioned"
        rules = [rule for rule in properties.get("LifecycleConfiguration", {}).get("Rules", []) if "Prefix" not in rule]
        enabled = [rule for rule in rules if rule["Status"] == "Enabled"]
        if not any("NoncurrentDays" in rule.get("NoncurrentVersionExpiration", {}) for rule in enabled):
            yield f"{name}: old versions stay for ever, which no erasure reaches"
        if not any("AbortIncompleteMultipartUpload" in rule for rule in enabled):
            yield f"{name}: uploads that were broken off stay for ever"


def buckets_log_access(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::S3::Bucket"):
        if "LoggingConfiguration" not in properties and not name.endswith("LogsBucket"):
            yield f"{name}: nobody writes down who reads it"


def buckets_take_tls_only(templates: Templates) -> Iterator[str]:
    strict = set()
    for name, _, properties in of_type(templates, "AWS::S3::BucketPolicy"):
        for statement in properties["PolicyDocument"]["Statement"]:
            insecure = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport") == "false"
            if statement["Effect"] == "Deny" and statement["Action"] == "s3:*" and insecure:
                bucket = properties["Bucket"]["Ref"]
                if len(listed(statement["Resource"])) == 2 and statement["Principal"] == "*":
                    strict.add(f"{name.partition('.')[0]}.{bucket}")
    for name, _, _ in of_type(templates, "AWS::S3::Bucket"):
        if name not in strict:
            yield f"{name}: answers without TLS"


def buckets_refuse_other_keys(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::S3::BucketPolicy"):
        statements = properties["PolicyDocument"]["Statement"]
        if name.endswith("LogsBucketPolicy"):
            continue
        if not any(found.get("Sid") == "OtherKeys" and found["Effect"] == "Deny" for found in statements):
            yield f"{name}: who writes may choose a key that we do not know"


def what_holds_data_is_kept(templates: Templates) -> Iterator[str]:
    for name, resource, properties in of_type(templates, *WITH_DATA, "AWS::SecretsManager::Secret"):
        if "GenerateSecretString" in properties:
            continue
        # But not where its making failed: a bucket that is left then stands in the next try's way.
        kept = resource.get("DeletionPolicy"), resource.get("UpdateReplacePolicy")
        if kept != ("RetainExceptOnCreate", "Retain"):
            yield f"{name}: goes with its stack"


def keys_rotate(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::KMS::Key"):
        if properties.get("EnableKeyRotation") is not True:
            yield f"{name}: does not rotate"
        if properties.get("PendingWindowInDays", 0) < 30:
            yield f"{name}: too little time to save it from a deletion"


def wildcards_have_a_reason(templates: Templates) -> Iterator[str]:
    used: dict[str, set[str]] = {}
    reasons: dict[str, dict[str, str]] = {}
    for name, resource, statement in statements(templates):
        reasons[name] = resource.get("Metadata", {}).get("Reasons", {})
        if statement["Effect"] != "Allow":
            continue
        actions, places = listed(statement.get("Action", [])), listed(statement.get("Resource", []))
        # A wildcard within a name is one too, but for what lies below a prefix or a name of ours.
        texts = [place.get("Fn::Sub", "") if isinstance(place, dict) else place for place in places]
        wide = [text for text in texts if text == "*" or re.search(r":\*[:/]|^\*|:::\*", text)]
        if any("*" in action for action in actions) or wide:
            sid = statement.get("Sid", "")
            used.setdefault(name, set()).add(sid)
            if len(reasons[name].get(sid, "")) < 15:
                yield f"{name}: {sid or 'a statement'} has a wildcard and no reason"
    for name, said in reasons.items():
        for sid in said.keys() - used.get(name, set()):
            yield f"{name}: the reason {sid} is for nothing"


def policies_say_what_they_allow(templates: Templates) -> Iterator[str]:
    for name, _, statement in statements(templates):
        if statement["Effect"] == "Allow" and statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}:
            yield f"{name}: allows all but something"
        if statement["Effect"] == "Allow" and statement.get("Principal") in ("*", {"AWS": "*"}):
            yield f"{name}: allows everybody"


def roles_trust_somebody_in_particular(templates: Templates) -> Iterator[str]:
    for name, statement in trusts(templates):
        text = json.dumps(statement["Principal"])
        if "*" in text or ":root" in text:
            yield f"{name}: trusts anybody"
        condition = json.dumps(statement.get("Condition", {}))
        wanted = ("aws:SourceAccount", "sts:ExternalId") if "Service" in text else ("aws:MultiFactorAuthPresent",)
        if not any(key in condition for key in wanted):
            yield f"{name}: trusts without the condition {wanted[0]}"


def no_policies_of_aws_and_no_users(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::IAM::Role"):
        if "iam::aws:policy" in json.dumps(properties.get("ManagedPolicyArns", [])):
            yield f"{name}: AWS's own policies grant more than a job needs"
    for name, resource, _ in of_type(templates, "AWS::IAM::User", "AWS::IAM::AccessKey", "AWS::IAM::Group"):
        yield f"{name}: {resource['Type']}, people and programs come by roles"


def nobody_passes_roles(templates: Templates) -> Iterator[str]:
    for name, _, statement in statements(templates, "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        for action in listed(statement.get("Action", [])):
            if action.startswith(("iam:", "organizations:", "sts:")):
                yield f"{name}: {action} is for who deploys"


def raw_is_deleted_by_keeper_and_eraser_alone(templates: Templates) -> Iterator[str]:
    allowed = {"s3:DeleteObject": ("KeeperPolicy", "EraserPolicy"), "s3:DeleteObjectVersion": ("EraserPolicy",)}
    for name, _, statement in statements(templates, "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        text = json.dumps(statement.get("Resource", ""))
        for action in allowed.keys() & set(listed(statement.get("Action", []))):
            if "RawBucketName" in text and not name.endswith(allowed[action]):
                yield f"{name}: raw is append-only"
        elsewhere = text.count("RawBucketName") != text.count("${RawBucketName}/raw/customer/usuarios/*")
        if name.endswith("EraserPolicy") and "s3:DeleteObject" in statement["Action"] and elsewhere:
            yield f"{name}: deletes more than changes of users"


def people_alone_erase_and_make_keys(templates: Templates) -> Iterator[str]:
    """Nothing that runs by itself carries their policies: who may run code in Airflow could forget anybody for ever."""
    for name, _, properties in of_type(templates, "AWS::IAM::Role"):
        carried = re.findall("Eraser|KeyMaker", json.dumps(properties.get("ManagedPolicyArns", [])))
        trusted = json.dumps([held["Principal"] for held in properties["AssumeRolePolicyDocument"]["Statement"]])
        if carried and "Service" in trusted:
            yield f"{name}: no person, and may do what {carried[0]} does"


def the_ledger_of_erasure_is_kept_apart(templates: Templates) -> Iterator[str]:
    """Who reads it can test whether somebody is in it; who writes it decides who comes back."""
    reads, writes = ("LoaderPolicy", "EraserPolicy"), ("EraserPolicy",)
    for name, _, statement in statements(templates, "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        places = re.findall(r"\$\{VaultBucketName\}/([^\"]*)", json.dumps(statement.get("Resource", "")))
        if any("erasure_ledger/x".startswith(place.rstrip("*")) or place.startswith("erasure") for place in places):
            changes = any(not action.startswith("s3:Get") for action in listed(statement["Action"]))
            if not name.endswith(writes if changes else reads):
                yield f"{name}: reaches the ledger of erasure"


def people_have_no_right_on_curated_objects(templates: Templates) -> Iterator[str]:
    for name, _, statement in statements(templates, "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        if re.search(r"\.(Analyst|Engineer|DataScientist|Operator|Eraser|KeyMaker)", name):
            text = json.dumps(statement["Resource"])
            hidden = (
                ("CuratedBucketName",)
                if re.search("Eraser|KeyMaker", name)
                else ("CuratedBucketName", "VaultBucketName")
            )
            if any(bucket in text for bucket in hidden):
                yield f"{name}: would go around Lake Formation"


def readers_see_no_more_than_their_layers(templates: Templates) -> Iterator[str]:
    """Analysts and data scientists: refined alone. Engineers: curated too."""
    beyond = ("RawBucketName", "RawDatabaseName", "StagingDatabaseName", "Vault")
    hidden = {
        "Analyst": (*beyond, "CuratedDatabaseName"),
        "DataScientist": (*beyond, "CuratedDatabaseName"),
        "Engineer": beyond,
    }
    for name, _, statement in statements(templates, "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"):
        if reader := re.search(rf"\.({'|'.join(hidden)})", name):
            for found in hidden[reader[1]]:
                if found in json.dumps(statement["Resource"]):
                    yield f"{name}: sees {found}"


def people_read_tables_by_tags_alone(templates: Templates) -> Iterator[str]:
    """Grants add up: who is granted a table or a layer by name is past the tags."""
    layers = {"Analyst": {"refined"}, "Engineer": {"curated", "refined"}}
    for name, _, properties in of_type(templates, "AWS::LakeFormation::PrincipalPermissions"):
        reader = re.search("|".join(layers), json.dumps(properties["Principal"]))
        if not reader:
            continue
        resource = properties["Resource"]
        if "LFTagPolicy" in resource:
            wanted = {item["TagKey"]: set(item["TagValues"]) for item in resource["LFTagPolicy"]["Expression"]}
            if not wanted.get("layer") or not wanted["layer"] <= layers[reader[0]]:
                yield f"{name}: reads another layer"
            if reader[0] == "Analyst" and wanted.get("pii") != {"none"}:
                yield f"{name}: reads personal data"
            if not set(properties["Permissions"]) <= {"DESCRIBE", "SELECT"}:
                yield f"{name}: changes what it reads"
        elif "Database" not in resource or properties["Permissions"] != ["DESCRIBE"]:
            yield f"{name}: is granted tables by name"
        elif not any(layer.capitalize() in json.dumps(resource) for layer in layers[reader[0]]):
            yield f"{name}: sees another layer"


def catalogue_is_closed_by_default(templates: Templates) -> Iterator[str]:
    settings = list(of_type(templates, "AWS::LakeFormation::DataLakeSettings"))
    if not settings:
        yield "no stack has Lake Formation's settings"
    for name, _, properties in settings:
        for key in ("CreateDatabaseDefaultPermissions", "CreateTableDefaultPermissions"):
            if properties.get(key) != []:
                yield f"{name}: {key} opens what is new to all of IAM"
    for name, resource, _ in of_type(templates, "AWS::Glue::Database"):
        if "LakeSettings" not in listed(resource.get("DependsOn", [])):
            yield f"{name}: may be made before Lake Formation's settings"
    for name, _, properties in of_type(templates, "AWS::LakeFormation::PrincipalPermissions"):
        text = json.dumps(properties["Principal"])
        if "IAM_ALLOWED_PRINCIPALS" in text or "ALL" in properties["Permissions"]:
            yield f"{name}: grants everything"
        if properties.get("PermissionsWithGrantOption"):
            yield f"{name}: may be passed on"


def logs_end_and_are_encrypted(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::Logs::LogGroup"):
        if "RetentionInDays" not in properties:
            yield f"{name}: is kept for ever"
        if "KmsKeyId" not in properties:
            yield f"{name}: not encrypted by a key of ours"


def streams_are_encrypted(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::Kinesis::Stream"):
        if properties.get("StreamEncryption", {}).get("EncryptionType") != "KMS":
            yield f"{name}: not encrypted"
        if properties.get("RetentionPeriodHours", 24) < 72:
            yield f"{name}: a long weekend loses changes"
    for name, _, properties in of_type(templates, "AWS::KinesisFirehose::DeliveryStream"):
        target = properties["ExtendedS3DestinationConfiguration"]
        if "KMSEncryptionConfig" not in target.get("EncryptionConfiguration", {}):
            yield f"{name}: not encrypted by a key of ours"
        if target.get("CloudWatchLoggingOptions", {}).get("Enabled") is not True:
            yield f"{name}: fails without a word"
        if not str(target.get("ErrorOutputPrefix", "")).startswith("rejected/"):
            yield f"{name}: what cannot be read is lost, or lands in raw"


def replication_is_private_and_leaves_the_source_as_it_is(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::DMS::ReplicationInstance"):
        if properties.get("PubliclyAccessible") is not False:
            yield f"{name}: reached from the internet"
        if "KmsKeyId" not in properties:
            yield f"{name}: not encrypted by a key of ours"
    for name, _, properties in of_type(templates, "AWS::DMS::Endpoint"):
        if properties.keys() & {"Password", "Username"}:
            yield f"{name}: who signs in stands in the template"
        if properties["EngineName"] == "postgres":
            settings = properties["PostgreSqlSettings"]
            if properties.get("SslMode") not in ("require", "verify-ca", "verify-full"):
                yield f"{name}: without TLS"
            if settings.get("CaptureDdls") is not False or settings.get("HeartbeatEnable") is not False:
                yield f"{name}: writes to the customer database"
        elif not properties["KinesisSettings"].get("IncludeTransactionDetails"):
            yield f"{name}: without LSNs nobody knows which change came last"


def topics_are_encrypted_and_take_tls_only(templates: Templates) -> Iterator[str]:
    strict = set()
    for name, _, properties in of_type(templates, "AWS::SNS::TopicPolicy"):
        for statement in properties["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny" and "aws:SecureTransport" in json.dumps(statement.get("Condition", {})):
                strict |= {f"{name.partition('.')[0]}.{topic['Ref']}" for topic in properties["Topics"]}
    for name, _, properties in of_type(templates, "AWS::SNS::Topic"):
        if "KmsMasterKeyId" not in properties:
            yield f"{name}: not encrypted"
        if name not in strict:
            yield f"{name}: answers without TLS"


def queries_are_limited_and_encrypted(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::Athena::WorkGroup"):
        held = properties["WorkGroupConfiguration"]
        if held.get("EnforceWorkGroupConfiguration") is not True:
            yield f"{name}: a client may choose other settings"
        if "BytesScannedCutoffPerQuery" not in held:
            yield f"{name}: a query may scan everything"
        if held.get("PublishCloudWatchMetricsEnabled") is not True:
            yield f"{name}: nobody sees what it scans"
        result = held.get("ResultConfiguration", {})
        if result.get("EncryptionConfiguration", {}).get("EncryptionOption") != "SSE_KMS":
            yield f"{name}: results are not encrypted by a key of ours"
        if "OutputLocation" not in result:
            yield f"{name}: a client chooses where results go"


def warehouse_is_private_and_bounded(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::RedshiftServerless::Workgroup"):
        parameters = {item["ParameterKey"]: item["ParameterValue"] for item in properties.get("ConfigParameters", [])}
        if properties.get("PubliclyAccessible") is not False:
            yield f"{name}: reached from the internet"
        if properties.get("EnhancedVpcRouting") is not True:
            yield f"{name}: reads the lake over the internet"
        if parameters.get("require_ssl") != "true":
            yield f"{name}: answers without TLS"
        if "MaxCapacity" not in properties:
            yield f"{name}: may grow without end"
        if not properties.get("SecurityGroupIds"):
            yield f"{name}: takes the VPC's default security group"
    for name, _, properties in of_type(templates, "AWS::RedshiftServerless::Namespace"):
        if "KmsKeyId" not in properties or "AdminPasswordSecretKmsKeyId" not in properties:
            yield f"{name}: not encrypted by keys of ours"
        if properties.get("ManageAdminPassword") is not True or "AdminUserPassword" in properties:
            yield f"{name}: somebody knows its password"
        if set(properties.get("LogExports", [])) != {"userlog", "connectionlog", "useractivitylog"}:
            yield f"{name}: nobody writes down who reads it"


def airflow_is_private_and_logs(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::MWAA::Environment"):
        if properties.get("WebserverAccessMode") != "PRIVATE_ONLY":
            yield f"{name}: its web server stands in the internet"
        if "KmsKey" not in properties:
            yield f"{name}: not encrypted by a key of ours"
        logs = properties.get("LoggingConfiguration", {})
        if len(logs) != 5 or not all(log.get("Enabled") is True for log in logs.values()):
            yield f"{name}: a part of it does not log"
        if logs.get("TaskLogs", {}).get("LogLevel") not in ("INFO", "WARNING"):
            yield f"{name}: alerts of level WARNING are not in its log"


def network_lets_nobody_in(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::EC2::Subnet"):
        if properties.get("MapPublicIpOnLaunch") is not False:
            yield f"{name}: gives public addresses"
    rules = [(name, rule, "in") for name, _, rule in of_type(templates, "AWS::EC2::SecurityGroupIngress")]
    rules += [(name, rule, "out") for name, _, rule in of_type(templates, "AWS::EC2::SecurityGroupEgress")]
    for name, _, properties in of_type(templates, "AWS::EC2::SecurityGroup"):
        rules += [(name, rule, "in") for rule in properties.get("SecurityGroupIngress", [])]
        rules += [(name, rule, "out") for rule in properties.get("SecurityGroupEgress", [])]
        if "SecurityGroupEgress" not in properties:
            yield f"{name}: without rules everything may go out"
    for name, rule, way in rules:
        anywhere = rule.get("CidrIp") == "0.0.0.0/0" or rule.get("CidrIpv6") == "::/0"
        if anywhere and (way == "in" or (rule.get("FromPort"), rule.get("ToPort")) != (443, 443)):
            yield f"{name}: {way} from or to anywhere"
        if not rule.get("Description"):
            yield f"{name}: a rule without a word"
    flows = {properties["ResourceId"].get("Ref") for _, _, properties in of_type(templates, "AWS::EC2::FlowLog")}
    for name, _, _ in of_type(templates, "AWS::EC2::VPC"):
        if name.partition(".")[2] not in flows:
            yield f"{name}: no flow log"


def secrets_are_nowhere_in_a_template(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::SecretsManager::Secret"):
        if properties.get("KmsKeyId") != {"Ref": "VaultKmsKeyId"}:
            yield f"{name}: not encrypted by the vault's key"
        if "SecretString" in properties:
            yield f"{name}: its value stands in the template"
    for stack, template in templates.items():
        for name, parameter in template.get("Parameters", {}).items():
            if (
                re.search(r"(?i)password|token|dsn(?!secretid)|(?<!kms)key$", name)
                and parameter.get("NoEcho") is not True
            ):
                yield f"{stack}.{name}: a secret as a parameter"
        if re.search(r"postgres(ql)?://[^ \"]*:[^ \"]*@", json.dumps(template)):
            yield f"{stack}: a DSN with a password"


def dashboards_read_refined_over_tls(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::QuickSight::DataSource"):
        if properties.get("SslProperties", {}).get("DisableSsl") is not False:
            yield f"{name}: without TLS"
        if "VpcConnectionProperties" not in properties:
            yield f"{name}: over the internet"
        if "CredentialPair" in properties.get("Credentials", {}):
            yield f"{name}: its password stands in the template"
    for name, _, properties in of_type(templates, "AWS::QuickSight::DataSet"):
        for table in properties["PhysicalTableMap"].values():
            if "CustomSql" in table or table.get("RelationalTable", {}).get("Schema") != "refined":
                yield f"{name}: reads another layer than refined"


def dashboards_are_copies_that_viewers_only_see(templates: Templates) -> Iterator[str]:
    refreshed = [
        (properties["DataSetId"], properties["Schedule"]["RefreshType"])
        for _, _, properties in of_type(templates, "AWS::QuickSight::RefreshSchedule")
    ]
    for name, _, properties in of_type(templates, "AWS::QuickSight::DataSet"):
        if properties["ImportMode"] != "SPICE":
            yield f"{name}: each view would query the warehouse"
        if (properties["DataSetId"], "FULL_REFRESH") not in refreshed:
            yield f"{name}: is never made anew"
    for name, _, properties in of_type(
        templates, "AWS::QuickSight::Dashboard", "AWS::QuickSight::DataSet", "AWS::QuickSight::DataSource"
    ):
        for found in properties["Permissions"]:
            permission = found["Fn::If"][1] if "Fn::If" in found else found
            actions = {action.partition(":")[2] for action in permission["Actions"]}
            if actions not in QUICKSIGHT_PERMISSIONS:
                yield f"{name}: QuickSight knows no such set of permissions"
            if permission["Principal"] != {"Ref": "DashboardOwnerArn"} and any(
                map(re.compile("Update|Delete").match, actions)
            ):
                yield f"{name}: a viewer may change it"


def notebooks_are_private(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::SageMaker::NotebookInstance"):
        if properties.get("DirectInternetAccess") != "Disabled" or "SubnetId" not in properties:
            yield f"{name}: goes around the VPC"
        if properties.get("RootAccess") != "Disabled":
            yield f"{name}: whoever opens it is its administrator"
        if "KmsKeyId" not in properties:
            yield f"{name}: not encrypted by a key of ours"
        if "LifecycleConfigName" not in properties:
            yield f"{name}: runs until somebody thinks of it"


def alarms_reach_people(templates: Templates) -> Iterator[str]:
    for name, _, properties in of_type(templates, "AWS::CloudWatch::Alarm"):
        if not properties.get("AlarmActions"):
            yield f"{name}: tells nobody"
        if "TreatMissingData" not in properties or not properties.get("AlarmDescription"):
            yield f"{name}: says neither what it means nor what silence means"


def every_trouble_has_an_alarm(templates: Templates) -> Iterator[str]:
    alarms = {properties["MetricName"]: properties for _, _, properties in of_type(templates, "AWS::CloudWatch::Alarm")}
    for metric in sorted(ALARMED - alarms.keys()):
        yield f"no alarm for {metric}"
    late = alarms.get("DAGDurationSuccess")
    if late and (late["TreatMissingData"] != "breaching" or late["Period"] * late["EvaluationPeriods"] != 600):
        yield "silence for ten minutes is no alarm"
    counted = set()
    for _, _, properties in of_type(templates, "AWS::Logs::MetricFilter"):
        transformation = properties["MetricTransformations"][0]
        counted.add(transformation["MetricName"])
        if f'"alert: {transformation["MetricName"]}:"' != properties["FilterPattern"]:
            yield f"the filter {transformation['MetricName']} counts something else"
    for metric, properties in alarms.items():
        if properties["Namespace"] == "Lakehouse" and metric not in counted:
            yield f"nothing counts {metric}"


def cost_is_watched(templates: Templates) -> Iterator[str]:
    budgets = list(of_type(templates, "AWS::Budgets::Budget"))
    if not budgets:
        yield "no budget"
    for name, _, properties in budgets:
        kinds = {
            found["Notification"]["NotificationType"]
            for found in properties.get("NotificationsWithSubscribers", [])
            if found["Subscribers"]
        }
        if kinds != {"ACTUAL", "FORECASTED"}:
            yield f"{name}: nobody hears of it in time"
    for name, _, properties in of_type(templates, "AWS::BCMDataExports::Export"):
        target = properties["Export"]["DestinationConfigurations"]["S3Destination"]
        if target["S3OutputConfigurations"]["Format"] != "PARQUET":
            yield f"{name}: not Parquet"


def templates_name_no_place(templates: Templates) -> Iterator[str]:
    for stack, template in templates.items():
        text = json.dumps(template)
        if re.search(r"(?<!\d)\d{12}(?!\d)", text.replace(str(1099511627776), "").replace(str(107374182400), "")):
            yield f"{stack}: an account's number"
        if re.search(
            r"\b(us|sa|eu|ap|ca)-(east|west|south|north|central)\w*-\d\b", text.replace(template["Description"], "")
        ):
            yield f"{stack}: a region's name"
        if re.search(r'"arn:aws:', text):
            yield f"{stack}: an ARN of one partition"


def templates_explain_themselves(templates: Templates) -> Iterator[str]:
    for stack, template in templates.items():
        if not template.get("Description", "").startswith("Lakehouse - "):
            yield f"{stack}: no description"
        for name, parameter in template.get("Parameters", {}).items():
            if not parameter.get("Description"):
                yield f"{stack}.{name}: no description"
    for name, _, properties in of_type(templates, "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"):
        if not properties.get("Description"):
            yield f"{name}: no description"


def policies_are_no_longer_than_iam_takes(templates: Templates) -> Iterator[str]:
    """Characters without blanks; references are counted as long as what they stand for may be."""
    for name, resource, properties in of_type(templates, "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"):
        documents = [
            properties.get("PolicyDocument"),
            *(held["PolicyDocument"] for held in properties.get("Policies", [])),
        ]
        text = "".join(json.dumps(document) for document in documents if document)
        for written, said in (("AWS::Partition", "aws"), ("AWS::Region", "sa-east-1"), ("AWS::AccountId", "1" * 12)):
            text = text.replace(f"${{{written}}}", said)
        text = re.sub(r'\{"Ref": "\w+"\}', "x" * 90, text)  # an ARN
        text = re.sub(r"\$\{\w*DatabaseName\}", "curated", text)
        text = re.sub(r"\$\{\w+\}", "x" * 45, text)
        size, limit = len(re.sub(r'\s|\{"Fn::Sub":', "", text)), 6144 if "Managed" in resource["Type"] else 10240
        if size > limit:
            yield f"{name}: {size} characters, IAM takes {limit}"


RULES: tuple[Rule, ...] = (
    buckets_are_encrypted_by_our_keys,
    the_vault_has_a_key_of_its_own,
    buckets_are_private,
    buckets_keep_versions_and_let_them_go,
    buckets_log_access,
    buckets_take_tls_only,
    buckets_refuse_other_keys,
    what_holds_data_is_kept,
    keys_rotate,
    wildcards_have_a_reason,
    policies_say_what_they_allow,
    roles_trust_somebody_in_particular,
    no_policies_of_aws_and_no_users,
    nobody_passes_roles,
    raw_is_deleted_by_keeper_and_eraser_alone,
    people_alone_erase_and_make_keys,
    the_ledger_of_erasure_is_kept_apart,
    people_have_no_right_on_curated_objects,
    readers_see_no_more_than_their_layers,
    people_read_tables_by_tags_alone,
    catalogue_is_closed_by_default,
    logs_end_and_are_encrypted,
    streams_are_encrypted,
    replication_is_private_and_leaves_the_source_as_it_is,
    topics_are_encrypted_and_take_tls_only,
    queries_are_limited_and_encrypted,
    warehouse_is_private_and_bounded,
    airflow_is_private_and_logs,
    network_lets_nobody_in,
    secrets_are_nowhere_in_a_template,
    dashboards_read_refined_over_tls,
    dashboards_are_copies_that_viewers_only_see,
    notebooks_are_private,
    alarms_reach_people,
    every_trouble_has_an_alarm,
    cost_is_watched,
    templates_name_no_place,
    templates_explain_themselves,
    policies_are_no_longer_than_iam_takes,
)
