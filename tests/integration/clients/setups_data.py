"""The set-ups of databases, caches, brokers, mail servers and other protocols than HTTP."""

from tests.integration.clients import (
    setups_caches,
    setups_databases,
    setups_kafka,
    setups_mail,
    setups_messaging,
    setups_mongo,
    setups_mysql,
    setups_others,
    setups_postgres,
    setups_protocols,
    setups_rabbitmq,
    setups_sqlalchemy,
)

SETUPS = (
    *setups_postgres.SETUPS,
    *setups_mysql.SETUPS,
    *setups_others.SETUPS,
    *setups_sqlalchemy.SETUPS,
    *setups_mongo.SETUPS,
    *setups_databases.SETUPS,
    *setups_caches.SETUPS,
    *setups_rabbitmq.SETUPS,
    *setups_kafka.SETUPS,
    *setups_messaging.SETUPS,
    *setups_mail.SETUPS,
    *setups_protocols.SETUPS,
)
