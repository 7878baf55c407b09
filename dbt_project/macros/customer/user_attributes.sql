{#- What is known of a user, beside the id: our column name -> the source's.
    Result: dict, in the order in which our tables list them. #}
{% macro user_attributes() %}
    {{- return({
        'full_name': 'nome',
        'email': 'email',
        'cpf': 'cpf',
        'phone': 'telefone',
        'birth_date': 'data_nascimento',
        'postal_code': 'cep',
        'city': 'cidade',
        'state_code': 'uf',
        'monthly_income': 'renda_mensal',
        'status': 'status',
        'notes': 'observacoes',
        'created_at': 'criado_em',
        'updated_at': 'atualizado_em',
    }) }}
{% endmacro %}
