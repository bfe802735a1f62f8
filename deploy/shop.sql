-- Create a table with rows to stream, and a role that can only read it.
--     READER_PASSWORD=... psql -f deploy/shop.sql [-v rows=1000] shop

\if :{?rows}
\else
    \set rows 1000000
\endif

create table things (
    id bigint primary key,
    name text not null,
    price numeric(8, 2) not null
);
insert into things select n * 10, 'thing ' || n * 10, n % 10000 / 100.0 from generate_series(1, :rows) as g(n);
analyze things;

\getenv password READER_PASSWORD
create role reader login password :'password';
grant select on things to reader;
