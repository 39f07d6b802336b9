"""PostgreSQL: connections, sign-in, outages, statements in ``.sql`` files, migrations."""
