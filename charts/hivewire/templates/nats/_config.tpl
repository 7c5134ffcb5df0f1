{{/* The configuration of the servers. */}}
{{- define "hivewire.natsConf" -}}
server_name: $POD_NAME
port: 4222
# For the kubelet's probes. It asks for no login, so it is in no Service.
http_port: 8222
pid_file: "/run/nats/nats.pid"
# Permissions of deployments with many types are long.
max_control_line: 262144
lame_duck_grace_period: "5s"
lame_duck_duration: "30s"
jetstream {
  store_dir: "/data/jetstream"
  max_file_store: {{ .Values.nats.storage.maxFileStore }}
  # What was acknowledged is on the disk.
  sync_interval: always
}
# operator, system_account and resolver_preload, made by the bootstrap.
include "./resolver.conf"
resolver {
  type: full
  dir: "/data/resolver"
  allow_delete: true
}
{{- if .Values.nats.tls.existingSecret }}
tls {
  cert_file: "/etc/nats-tls/tls.crt"
  key_file: "/etc/nats-tls/tls.key"
  ca_file: "/etc/nats-tls/ca.crt"
}
{{- end }}
{{- if gt (int .Values.nats.nodes) 1 }}
cluster {
  name: {{ include "hivewire.name" . }}
  port: 6222
  no_advertise: true
  connect_retries: 120
  authorization {
    user: routes
    password: $ROUTES_PASSWORD_QUOTED
    timeout: 5
  }
  routes: $ROUTES
  {{- if .Values.nats.tls.existingSecret }}
  tls {
    cert_file: "/etc/nats-tls/tls.crt"
    key_file: "/etc/nats-tls/tls.key"
    ca_file: "/etc/nats-tls/ca.crt"
    verify: true
  }
  {{- end }}
}
{{- end }}
{{- end }}
