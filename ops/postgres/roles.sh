#!/bin/sh
# Runs once, when PostgreSQL's data folder is new: the control database, and the role the gateway and the worker connect as.
# That role owns nothing; what it may do, migrations grant to the group gledger_runtime.
set -eu
psql --set=ON_ERROR_STOP=1 --set=password="$POSTGRES_APP_PASSWORD" --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
CREATE ROLE gledger_runtime NOLOGIN;
CREATE ROLE gledger_app LOGIN PASSWORD :'password' IN ROLE gledger_runtime;
CREATE DATABASE gledger_control;
SQL
