{{/* Names and labels. Most of these are given (dict "root" $ "name" PROCESS). */}}
{{- define "sentinel.fullname" -}}
{{- if eq .Release.Name .Chart.Name -}}{{ .Chart.Name }}{{- else -}}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "sentinel.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "sentinel.labels" -}}
{{ include "sentinel.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "sentinel.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/* Which processes reach Kafka, use the vault, and keep something on the state claim. */}}
{{- define "sentinel.uses" -}}
{{- dict
  "worker" (dict "kafka" true "vault" true "user" "worker")
  "console" (dict "kafka" true "vault" true "user" "api")
  "responders" (dict "kafka" true "user" "responder")
  "reference" (dict "user" "learner")
  "loop" (dict "user" "learner")
  "notary" (dict "user" "notary")
  "archiver" (dict "user" "archiver") | toYaml -}}
{{- end -}}

{{/* The environment of a process: exactly what it uses. */}}
{{- define "sentinel.env" -}}
{{- $root := .root -}}
{{- $uses := index (include "sentinel.uses" . | fromYaml) .name -}}
- {name: STREAM_SENTINEL_ENV, value: {{ $root.Values.environment | quote }}}
- {name: SENTINEL_CONFIG, value: /etc/sentinel/settings/settings.toml}
- {name: LOG_LEVEL, value: {{ $root.Values.logLevel | quote }}}
- {name: SENTINEL_LOG_PREFIX, value: {{ $root.Values.logPrefix | quote }}}
- {name: REDIS_HOST, value: {{ required "redis.host is missing" $root.Values.redis.host | quote }}}
- {name: REDIS_PORT, value: {{ $root.Values.redis.port | quote }}}
- {name: SENTINEL_REDIS_CLUSTER, value: {{ $root.Values.redis.cluster | quote }}}
- {name: SENTINEL_REDIS_TLS, value: "true"}
- {name: REDIS_USERNAME, value: sentinel-{{ $uses.user }}}
- {name: SENTINEL_REDIS_PASSWORD_FILE, value: /etc/sentinel/secrets/redis-password}
- {name: SENTINEL_IDENTITY_KEY, value: /etc/sentinel/secrets/identity.pem}
{{- if $root.Values.ca.configMap }}
- {name: SENTINEL_REDIS_CA_FILE, value: /etc/sentinel/ca/{{ $root.Values.ca.key }}}
{{- end }}
{{- if $root.Values.archive.location }}
- {name: SENTINEL_ARCHIVE, value: {{ $root.Values.archive.location | quote }}}
{{- end }}
{{- if $uses.kafka }}
- {name: KAFKA_SERVERS, value: {{ required "kafka.servers is missing" $root.Values.kafka.servers | quote }}}
- {name: SENTINEL_KAFKA_TLS, value: "true"}
- {name: SENTINEL_KAFKA_SASL, value: {{ $root.Values.kafka.sasl | quote }}}
- {name: KAFKA_USERNAME, value: sentinel-{{ $uses.user }}}
- {name: SENTINEL_KAFKA_PASSWORD_FILE, value: /etc/sentinel/secrets/kafka-password}
- {name: CONSUMER_GROUP, value: {{ $root.Values.kafka.consumerGroup | quote }}}
- {name: SENTINEL_TRANSACTIONS_TOPIC, value: {{ $root.Values.kafka.transactionsTopic | quote }}}
- {name: SENTINEL_FEEDBACK_TOPIC, value: {{ $root.Values.kafka.feedbackTopic | quote }}}
- {name: SENTINEL_DECISIONS_TOPIC, value: {{ $root.Values.kafka.decisionsTopic | quote }}}
- {name: SENTINEL_DEAD_LETTER_TOPIC, value: {{ $root.Values.kafka.deadLetterTopic | quote }}}
{{- if $root.Values.ca.configMap }}
- {name: SENTINEL_KAFKA_CA_FILE, value: /etc/sentinel/ca/{{ $root.Values.ca.key }}}
{{- end }}
{{- end }}
{{- if $uses.vault }}
# Folders below the claim, which processes make for themselves alone, as production requires; the claim's own folder is
# the group's.
- {name: SENTINEL_VAULT, value: /var/lib/sentinel/state/vault/vault}
- {name: SENTINEL_VAULT_KEY_FILE, value: /etc/sentinel/secrets/vault.key}
- {name: SENTINEL_SNAPSHOT_DIRECTORY, value: /var/lib/sentinel/state/snapshots}
- {name: XDG_CACHE_HOME, value: /var/lib/sentinel/state/cache}
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The pod of a process. args: of `sentinel`. command: instead of the image's. period: how often to ask. */}}
{{- define "sentinel.pod" -}}
{{- $root := .root -}}
{{- $values := index $root.Values .name -}}
{{- $uses := index (include "sentinel.uses" . | fromYaml) .name -}}
metadata:
  labels:
    {{- include "sentinel.selector" . | nindent 4 }}
    {{- if $uses.vault }}
    stream-sentinel/state: {{ $root.Release.Name }}
    {{- end }}
  annotations:
    checksum/settings: {{ $root.Values.settings | sha256sum }}
    {{- if and .serves (not $root.Values.podMonitor.enabled) }}
    prometheus.io/scrape: "true"
    prometheus.io/port: "9100"
    {{- end }}
spec:
  serviceAccountName: {{ include "sentinel.fullname" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 60
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- if not .serves }}
  restartPolicy: Never
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    # Secrets are readable by this group. Files that processes made themselves keep their modes, which they check.
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if and $uses.vault $root.Values.state.oneNode }}
  affinity:
    podAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector: {matchLabels: {stream-sentinel/state: {{ $root.Release.Name }}}}
  {{- else if not $uses.vault }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: {matchLabels: {{ include "sentinel.selector" . | fromYaml | toJson }}}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .name }}
      image: {{ include "sentinel.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      {{- with .command }}
      command: {{ toJson . }}
      {{- end }}
      args: {{ toJson .args }}
      env: {{- include "sentinel.env" . | nindent 8 }}
      {{- if .serves }}
      ports:
        - {name: metrics, containerPort: 9100}
        {{- if eq .name "console" }}
        - {name: http, containerPort: 8700}
        {{- end }}
      # A start compiles nothing if the image's kernels fit the processor; else it takes a minute or two.
      startupProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 5
        failureThreshold: 60
      # Whether it lives. A backlog, or a log server that does not answer, is no reason to start again: readiness.
      livenessProbe:
        httpGet: {path: /livez, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: metrics}
        periodSeconds: 10
        timeoutSeconds: 5
      {{- end }}
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: settings, mountPath: /etc/sentinel/settings, readOnly: true}
        - {name: secrets, mountPath: /etc/sentinel/secrets, readOnly: true}
        {{- if $root.Values.ca.configMap }}
        - {name: ca, mountPath: /etc/sentinel/ca, readOnly: true}
        {{- end }}
        {{- if $uses.vault }}
        - {name: state, mountPath: /var/lib/sentinel/state}
        {{- else if eq .name "notary" }}
        - {name: notary, mountPath: /var/lib/sentinel/notary}
        {{- end }}
        {{- if $root.Values.archive.claim }}
        - {name: archive, mountPath: {{ $root.Values.archive.location }}, readOnly: {{ ne .name "archiver" }}}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: settings, configMap: {name: {{ include "sentinel.fullname" $root }}}}
    - {name: secrets, secret: {secretName: {{ $root.Values.secrets }}-{{ .name }}, defaultMode: 0440}}
    {{- if $root.Values.ca.configMap }}
    - {name: ca, configMap: {name: {{ $root.Values.ca.configMap }}}}
    {{- end }}
    {{- if $uses.vault }}
    - {name: state, persistentVolumeClaim: {claimName: {{ $root.Values.state.claim | default (printf "%s-state" (include "sentinel.fullname" $root)) }}}}
    {{- else if eq .name "notary" }}
    # What it signed is also in the anchors, from which it continues.
    - {name: notary, emptyDir: {}}
    {{- end }}
    {{- if $root.Values.archive.claim }}
    - {name: archive, persistentVolumeClaim: {claimName: {{ $root.Values.archive.claim }}}}
    {{- end }}
{{- end -}}

{{/* What can't work is refused before anything is installed. */}}
{{- define "sentinel.check" -}}
{{- if and (eq .Values.environment "production") (not .Values.state.oneNode) -}}
{{- fail "state.oneNode=false is for logs without tokens, which production refuses: the vault of a log with tokens must be used on one node only (docs/deployment.md)" -}}
{{- end -}}
{{- if and .Values.archive.claim (not .Values.archive.location) -}}
{{- fail "archive.claim is mounted at archive.location, which is missing: set a path such as /var/lib/archive" -}}
{{- end -}}
{{- if gt (int .Values.worker.autoscaling.minReplicas) (int .Values.worker.autoscaling.maxReplicas) -}}
{{- fail "worker.autoscaling.minReplicas is above maxReplicas" -}}
{{- end -}}
{{- end -}}
