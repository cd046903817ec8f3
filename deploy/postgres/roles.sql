-- Two roles for Carillon's database: one that owns the schema and is used by `carillon migrate` alone, and one for the nodes and all other commands, which
-- reads and writes rows and calls functions. As a superuser, before the first `carillon migrate` or at any time after; a second time does no harm:
--
--     psql -d carillon -v ON_ERROR_STOP=1 -v owner=carillon_owner -v node=carillon_node -f deploy/postgres/roles.sql
--     psql -d carillon -c '\password carillon_owner' -c '\password carillon_node'

SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY[:'owner', :'node']) AS t(name) WHERE to_regrole(quote_ident(name)) IS NULL
\gexec

REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO :"owner", :"node";
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO :"owner";
GRANT USAGE ON SCHEMA public TO :"node";

-- What later migrations make.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO :"node";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT USAGE ON SEQUENCES TO :"node";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO :"node";

-- What is there.
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO :"node";
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO :"node";
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO :"node";
