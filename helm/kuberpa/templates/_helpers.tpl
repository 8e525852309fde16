{{/* Labels of every object of the chart. */}}
{{- define "kuberpa.labels" -}}
app.kubernetes.io/name: kuberpa
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* Labels that tell the pods of one component: (dict "root" $ "component" "panel"). */}}
{{- define "kuberpa.selector" -}}
app.kubernetes.io/name: kuberpa
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "kuberpa.image" -}}
{{ .root.Values.image.registry }}/kuberpa-{{ .component }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{/* User name of one of kuberpa's own accounts. */}}
{{- define "kuberpa.account" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:kuberpa-{{ .component }}
{{- end }}

{{/* CEL: whether the requester is one of kuberpa's own accounts. */}}
{{- define "kuberpa.isOwnAccount" -}}
request.userInfo.username in ['{{ include "kuberpa.account" (dict "root" . "component" "operator") }}', '{{ include "kuberpa.account" (dict "root" . "component" "panel") }}']
{{- end }}

{{- define "kuberpa.panelUrl" -}}
{{- if .Values.panel.url -}}
{{ .Values.panel.url }}
{{- else -}}
{{ ternary "https" "http" (not (empty .Values.panel.tls.secretName)) }}://kuberpa-panel.{{ .Release.Namespace }}.svc:{{ .Values.panel.service.port }}
{{- end -}}
{{- end }}

{{/* Whether a server answers: `helm template` asks none, and must not be told what a cluster lacks. */}}
{{- define "kuberpa.connected" -}}
{{- if lookup "v1" "Namespace" "" "kube-system" }}yes{{ end -}}
{{- end }}

{{/* The Secret with the database's URL, and its entry. */}}
{{- define "kuberpa.databaseSecret" -}}
{{ ternary "kuberpa-postgresql" .Values.panel.database.existingSecret.name .Values.postgresql.enabled }}
{{- end }}

{{- define "kuberpa.databaseKey" -}}
{{ ternary "url" .Values.panel.database.existingSecret.key .Values.postgresql.enabled }}
{{- end }}

{{/* Whether there is a ServiceMonitor. */}}
{{- define "kuberpa.serviceMonitor" -}}
{{- $asked := toString .Values.metrics.serviceMonitor.enabled -}}
{{- if or (eq $asked "true") (and (eq $asked "auto") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/ServiceMonitor")) }}yes{{ end -}}
{{- end }}

{{/* Where `helm test` works. */}}
{{- define "kuberpa.testNamespace" -}}
{{ .Values.test.namespace | default (first .Values.watchNamespaces) | default .Release.Namespace }}
{{- end }}

{{/* apiVersion of an admission policy kind as this server has it; empty: it has none. helm template, which asks no
     server, goes by the version given with --kube-version. (dict "root" $ "kind" "MutatingAdmissionPolicy" "since" "1.36") */}}
{{- define "kuberpa.policyVersion" -}}
{{- $group := "admissionregistration.k8s.io" -}}
{{- if .root.Capabilities.APIVersions.Has (printf "%s/v1/%s" $group .kind) -}}
{{ $group }}/v1
{{- else if .root.Capabilities.APIVersions.Has (printf "%s/v1beta1/%s" $group .kind) -}}
{{ $group }}/v1beta1
{{- else if semverCompare (printf ">=%s.0-0" .since) .root.Capabilities.KubeVersion.Version -}}
{{ $group }}/v1
{{- end -}}
{{- end }}

{{- define "kuberpa.validatingVersion" -}}
{{- if .Values.admissionPolicies.enabled -}}
{{ include "kuberpa.policyVersion" (dict "root" . "kind" "ValidatingAdmissionPolicy" "since" "1.30") }}
{{- end -}}
{{- end }}

{{- define "kuberpa.mutatingVersion" -}}
{{- if .Values.admissionPolicies.enabled -}}
{{ include "kuberpa.policyVersion" (dict "root" . "kind" "MutatingAdmissionPolicy" "since" "1.36") }}
{{- end -}}
{{- end }}

{{/* Restricted Pod Security Standard. */}}
{{- define "kuberpa.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "kuberpa.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Environment of both processes. */}}
{{- define "kuberpa.env" -}}
- name: KUBERPA_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: KUBERPA_REPLICA
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: KUBERPA_WATCH_NAMESPACES
  value: {{ join "," .Values.watchNamespaces | quote }}
- name: KUBERPA_LOST_AFTER_SECONDS
  value: {{ .Values.lostAfterSeconds | quote }}
- name: KUBERPA_LOG_LEVEL
  value: {{ .Values.logLevel | quote }}
{{- end }}

{{/* Scheduling of the pods of one component, from its values. */}}
{{- define "kuberpa.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{/* The binding of a policy, in the namespaces that are served: (dict "root" $ "version" … "kind" … "name" … "actions" (list "Deny")). */}}
{{- define "kuberpa.policyBinding" -}}
apiVersion: {{ .version }}
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  labels: {{- include "kuberpa.labels" .root | nindent 4 }}
spec:
  policyName: {{ .name }}
  {{- with .actions }}
  validationActions: {{ toJson . }}
  {{- end }}
  {{- with .root.Values.watchNamespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
        - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
  {{- end }}
{{- end }}

{{/* CEL: the phases that an activity does not leave; as kuberpa.activity.FINAL_PHASES. */}}
{{- define "kuberpa.finalPhases" -}}
['Succeeded', 'Failed', 'Stopped', 'Killed', 'Expired', 'Lost']
{{- end }}

{{/* What a drain must leave of a component: (dict "root" $ "component" … "values" …). */}}
{{- define "kuberpa.disruptionBudget" }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: kuberpa-{{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "kuberpa.labels" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  minAvailable: {{ .values.podDisruptionBudget.minAvailable }}
  selector:
    matchLabels: {{- include "kuberpa.selector" . | nindent 6 }}
{{- end }}
