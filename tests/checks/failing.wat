;; A plugin whose check crashes. It exports the contract's `about` and `checks`.
(component
  (import "wasaba:plugin/types@0.2.0" (instance $types
    (export "secret" (type $secret (sub resource)))
    (type $own (own $secret))
    (type $value (variant (case "text" string) (case "secret" $own)))
    (export "setting-value" (type $setting-value (eq $value)))
    (type $list (list (tuple string $setting-value)))
    (export "settings" (type (eq $list)))
    (type $fields (record (field "kind" string) (field "message" string) (field "retry-after-ms" (option u64))
      (field "attributes" (list (tuple string string)))))
    (export "error" (type (eq $fields)))))
  (alias export $types "settings" (type $settings))
  (alias export $types "error" (type $error))

  (core module $code
    (memory (export "memory") 1)
    (data (i32.const 0) "failing")
    (data (i32.const 8) "1.0.0")
    ;; The description: pointer and length of name, version, summary, settings, reach, attributes.
    (data (i32.const 64) "\00\00\00\00\07\00\00\00" "\08\00\00\00\05\00\00\00")
    (func (export "allocate") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "describe") (result i32) (i32.const 64))
    (func (export "check") (param i32 i32) (result i32) unreachable))
  (core instance $code (instantiate $code))
  (alias core export $code "memory" (core memory $memory))
  (alias core export $code "allocate" (core func $allocate))

  (type $setting (record (field "key" string) (field "kind" string) (field "default" (option string))
    (field "required" bool) (field "repeatable" bool) (field "port-of" (option string)) (field "help" string)
    (field "attributes" (list (tuple string string)))))
  (type $description (record (field "name" string) (field "version" string) (field "summary" string)
    (field "settings" (list $setting)) (field "reach" (list string))
    (field "attributes" (list (tuple string string)))))
  (func $describe (result $description)
    (canon lift (core func $code "describe") (memory (core memory $memory))))
  (instance $about
    (export "setting" (type $setting))
    (export "description" (type $description))
    (export "describe" (func $describe)))
  (export "wasaba:plugin/about@0.2.0" (instance $about))

  (type $status (enum "ok" "warning" "critical" "unknown"))
  (type $report (record (field "name" string) (field "status" $status) (field "message" string)
    (field "attributes" (list (tuple string string)))))
  (type $check-results (record (field "reports" (list $report)) (field "attributes" (list (tuple string string)))))
  (func $check (param "settings" $settings) (result (result $check-results (error $error)))
    (canon lift (core func $code "check") (memory (core memory $memory)) (realloc (core func $allocate))))
  (instance $checks
    (export "status" (type $status))
    (export "report" (type $report))
    (export "check-results" (type $check-results))
    (export "check" (func $check)))
  (export "wasaba:plugin/checks@0.2.0" (instance $checks)))
