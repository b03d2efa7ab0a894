"""The audit store behind a transaction pooler: `make check-pgbouncer`, which needs Debian's package `pgbouncer`."""
