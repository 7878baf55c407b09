{#- Which columns hold personal data, of which class, and what masks them, by relation.
    Generated from the lineage by `python -m privacy write`; never edited.
    Result: dict, relation -> column -> class and, where the value is masked, masked_by. #}
{% macro column_privacy() %}
    {{- return({
        "aws.cost_and_usage": {
            "line_item_resource_id": {"class": "free_text"},
            "resource_tags": {"class": "document"}
        },
        "customer.usuarios": {
            "before": {"class": "document"},
            "after": {"class": "document"}
        },
        "disney.characters": {
            "payload": {"class": "document"}
        },
        "vault.masking_key": {
            "inner_pad": {"class": "secret"},
            "outer_pad": {"class": "secret"}
        },
        "base_aws__cost_and_usage": {
            "resource_id": {"class": "free_text"}
        },
        "base_customer__user_changes": {
            "user_id": {"class": "identifier"},
            "previous_user_id": {"class": "identifier"},
            "full_name": {"class": "name"},
            "email": {"class": "email"},
            "cpf": {"class": "cpf"},
            "phone": {"class": "phone"},
            "birth_date": {"class": "birth_date"},
            "postal_code": {"class": "postal_code"},
            "city": {"class": "city"},
            "monthly_income": {"class": "income"},
            "notes": {"class": "free_text"},
            "before": {"class": "document"},
            "after": {"class": "document"}
        },
        "base_disney__characters": {
            "name": {"class": "name"},
            "image_url": {"class": "link"},
            "source_url": {"class": "link"},
            "url": {"class": "link"},
            "payload": {"class": "document"},
            "allies": {"class": "name"},
            "enemies": {"class": "name"}
        },
        "stg_aws__cost_and_usage": {
            "resource_id": {"class": "free_text"}
        },
        "stg_aws__rejected_cost_and_usage": {
            "resource_id": {"class": "free_text"}
        },
        "stg_customer__rejected_user_changes": {
            "before": {"class": "document"},
            "after": {"class": "document"}
        },
        "stg_customer__user_changes": {
            "user_id": {"class": "identifier"},
            "previous_user_id": {"class": "identifier"},
            "full_name": {"class": "name"},
            "email": {"class": "email"},
            "cpf": {"class": "cpf"},
            "phone": {"class": "phone"},
            "birth_date": {"class": "birth_date"},
            "postal_code": {"class": "postal_code"},
            "city": {"class": "city"},
            "monthly_income": {"class": "income"},
            "notes": {"class": "free_text"}
        },
        "stg_disney__character_relations": {
            "related_name": {"class": "name"}
        },
        "stg_disney__characters": {
            "name": {"class": "name"},
            "image_url": {"class": "link"},
            "source_url": {"class": "link"},
            "url": {"class": "link"}
        },
        "stg_disney__rejected_characters": {
            "payload": {"class": "document"}
        },
        "character_relations": {
            "related_name": {"class": "name"}
        },
        "characters": {
            "name": {"class": "name"},
            "image_url": {"class": "link"},
            "source_url": {"class": "link"}
        },
        "completed_user_changes": {
            "user_id": {"class": "identifier"},
            "full_name": {"class": "name"},
            "email": {"class": "email"},
            "cpf": {"class": "cpf"},
            "phone": {"class": "phone"},
            "birth_date": {"class": "birth_date"},
            "postal_code": {"class": "postal_code"},
            "city": {"class": "city"},
            "monthly_income": {"class": "income"},
            "notes": {"class": "free_text"}
        },
        "cost_line_items": {
            "resource_id": {"class": "free_text"}
        },
        "incomplete_moves": {
            "user_id": {"class": "identifier"},
            "previous_user_id": {"class": "identifier"},
            "first_user_id": {"class": "identifier"}
        },
        "user_changes": {
            "user_id": {"class": "identifier"},
            "previous_user_id": {"class": "identifier"},
            "full_name": {"class": "name"},
            "email": {"class": "email"},
            "cpf": {"class": "cpf"},
            "phone": {"class": "phone"},
            "birth_date": {"class": "birth_date"},
            "postal_code": {"class": "postal_code"},
            "city": {"class": "city"},
            "monthly_income": {"class": "income"},
            "notes": {"class": "free_text"}
        },
        "user_versions": {
            "user_id": {"class": "identifier"},
            "full_name": {"class": "name"},
            "email": {"class": "email"},
            "cpf": {"class": "cpf"},
            "phone": {"class": "phone"},
            "birth_date": {"class": "birth_date"},
            "postal_code": {"class": "postal_code"},
            "city": {"class": "city"},
            "monthly_income": {"class": "income"},
            "notes": {"class": "free_text"},
            "previous_user_id": {"class": "identifier"}
        },
        "users": {
            "user_id": {"class": "identifier"},
            "full_name": {"class": "name"},
            "email": {"class": "email"},
            "cpf": {"class": "cpf"},
            "phone": {"class": "phone"},
            "birth_date": {"class": "birth_date"},
            "postal_code": {"class": "postal_code"},
            "city": {"class": "city"},
            "monthly_income": {"class": "income"},
            "notes": {"class": "free_text"}
        },
        "dim_characters": {
            "name_pseudonym": {"class": "name", "masked_by": "pseudonym"},
            "masked_name": {"class": "name", "masked_by": "mask_initials"},
            "masked_image_url": {"class": "link", "masked_by": "mask_url"},
            "masked_source_url": {"class": "link", "masked_by": "mask_url"}
        },
        "dim_users": {
            "user_key": {"class": "identifier", "masked_by": "pseudonym"},
            "email_pseudonym": {"class": "email", "masked_by": "pseudonym"},
            "cpf_pseudonym": {"class": "cpf", "masked_by": "pseudonym"},
            "phone_pseudonym": {"class": "phone", "masked_by": "pseudonym"},
            "masked_name": {"class": "name", "masked_by": "mask_initials"},
            "masked_email": {"class": "email", "masked_by": "mask_email"},
            "masked_cpf": {"class": "cpf", "masked_by": "mask_cpf"},
            "masked_phone": {"class": "phone", "masked_by": "mask_phone"},
            "masked_postal_code": {"class": "postal_code", "masked_by": "mask_postal_code"},
            "birth_year": {"class": "birth_date", "masked_by": "birth_year"},
            "age_band": {"class": "birth_date", "masked_by": "age_band"},
            "income_band": {"class": "income", "masked_by": "condition"}
        },
        "mart_platform_cost": {
            "layer": {"class": "free_text", "masked_by": "condition"}
        },
        "mart_user_segments": {
            "age_band": {"class": "birth_date", "masked_by": "age_band"},
            "income_band": {"class": "income", "masked_by": "condition"}
        },
        "mart_users_by_state": {
            "average_income": {"class": "income", "masked_by": "count, mean of a group"}
        },
        "user_features": {
            "user_key": {"class": "identifier", "masked_by": "pseudonym"},
            "age_band": {"class": "birth_date", "masked_by": "age_band"},
            "income_band": {"class": "income", "masked_by": "condition"}
        }
    }) }}
{% endmacro %}
