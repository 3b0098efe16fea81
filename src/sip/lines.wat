;; Finds the header lines of a SIP message for lines.ts: their ends, their wanted names, and their values.
;; WebAssembly, because its vectors examine 16 octets in one step, and most octets of a message are only skipped.
;; It finds lines; the scanner judges them. `npm run wasm` writes lines-wasm.ts from this file.
;;
;; Memory:       0  the names: 16 octets for each of 256 places (header-name.ts), in lower case, then zeros
;;           4,096  their numbers, one octet for each place
;;           4,352  the token characters: 16 octets by the low half of an octet, 16 by its high half;
;;                  an octet is a token character when the two share a bit
;;           8,192  the lines found, five 32-bit words each: number of the name (0 = not in the table, 255 = no name);
;;                  begin and end of the value and end of its first word, when there is a number; end of the line
;;          65,536  the message after its start line; then room for one octet, and for a vector that reads further
(module
  (memory (export "memory") 3)

  ;; Returns one bit per octet: set for those of 16 octets that are no token characters (RFC 3261 25.1).
  (func $no_token (param $octets v128) (result i32)
    (i8x16.bitmask
      (i8x16.eq
        (v128.and
          (i8x16.swizzle
            (v128.load (i32.const 4352))
            (v128.and (local.get $octets) (v128.const i32x4 0x0f0f0f0f 0x0f0f0f0f 0x0f0f0f0f 0x0f0f0f0f)))
          (i8x16.swizzle (v128.load (i32.const 4368)) (i8x16.shr_u (local.get $octets) (i32.const 4))))
        (v128.const i32x4 0 0 0 0))))

  ;; Returns one bit per octet: set for those of 16 octets that are CR or LF.
  (func $line_break (param $octets v128) (result i32)
    (i8x16.bitmask
      (v128.or
        (i8x16.eq (local.get $octets) (v128.const i32x4 0x0d0d0d0d 0x0d0d0d0d 0x0d0d0d0d 0x0d0d0d0d))
        (i8x16.eq (local.get $octets) (v128.const i32x4 0x0a0a0a0a 0x0a0a0a0a 0x0a0a0a0a 0x0a0a0a0a)))))

  ;; SP or HT.
  (func $is_space (param $octet i32) (result i32)
    (i32.or (i32.eq (local.get $octet) (i32.const 32)) (i32.eq (local.get $octet) (i32.const 9))))

  ;; SP, HT, CR or LF.
  (func $is_blank (param $octet i32) (result i32)
    (i32.or
      (call $is_space (local.get $octet))
      (i32.or (i32.eq (local.get $octet) (i32.const 13)) (i32.eq (local.get $octet) (i32.const 10)))))

  ;; Returns the number of the name from $start to $end (1 to 15 octets); 0 = not in the table.
  ;; $octets holds the first 16 octets from $start.
  (func $number (param $octets v128) (param $start i32) (param $end i32) (result i32)
    (local $length i32) (local $place i32)
    (local.set $length (i32.sub (local.get $end) (local.get $start)))
    ;; Same as placeOf in header-name.ts.
    (local.set $place
      (i32.and
        (i32.add
          (i32.add
            (i32.shl (i32.and (i32.load8_u (local.get $start)) (i32.const 31)) (i32.const 3))
            (i32.shl (i32.and (i32.load8_u (i32.sub (local.get $end) (i32.const 1))) (i32.const 31)) (i32.const 2)))
          (local.get $length))
        (i32.const 255)))
    ;; Octets after the name become zero, as they are in the table.
    (if (result i32)
      (v128.any_true
        (v128.xor
          (v128.load (i32.shl (local.get $place) (i32.const 4)))
          (v128.and
            (v128.or (local.get $octets) (v128.const i32x4 0x20202020 0x20202020 0x20202020 0x20202020))
            (i8x16.lt_u
              (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
              (i8x16.splat (local.get $length))))))
      (then (i32.const 0))
      (else (i32.load8_u offset=4096 (local.get $place)))))

  ;; Writes into $row where the value between $at and $end is, without surrounding blanks and folds. An empty one lies
  ;; at $at. Writes the end of its first word too: its first blank or control octet, or its end. The octet after a value
  ;; is always a blank or control octet.
  (func $value (param $at i32) (param $end i32) (param $row i32) (param $shift i32)
    (local $word i32) (local $octets v128) (local $bits i32)
    (loop $trim
      (if (i32.gt_u (local.get $end) (local.get $at))
        (then
          (if (call $is_blank (i32.load8_u (i32.sub (local.get $end) (i32.const 1))))
            (then
              (local.set $end (i32.sub (local.get $end) (i32.const 1)))
              (br $trim))))))
    (loop $skip
      (if (i32.lt_u (local.get $at) (local.get $end))
        (then
          (if (call $is_blank (i32.load8_u (local.get $at)))
            (then
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br $skip))))))
    (local.set $word (local.get $at))
    (loop $in_word
      (local.set $octets (v128.load (local.get $word)))
      (local.set $bits
        (i8x16.bitmask
          (v128.or
            (i8x16.le_u (local.get $octets) (v128.const i32x4 0x20202020 0x20202020 0x20202020 0x20202020))
            (i8x16.eq (local.get $octets) (v128.const i32x4 0x7f7f7f7f 0x7f7f7f7f 0x7f7f7f7f 0x7f7f7f7f)))))
      (if (i32.eqz (local.get $bits))
        (then
          (local.set $word (i32.add (local.get $word) (i32.const 16)))
          (br $in_word))))
    (i32.store offset=4 (local.get $row) (i32.add (local.get $at) (local.get $shift)))
    (i32.store offset=8 (local.get $row) (i32.add (local.get $end) (local.get $shift)))
    (i32.store offset=12 (local.get $row)
      (i32.add (i32.add (local.get $word) (i32.ctz (local.get $bits))) (local.get $shift))))

  ;; Walks the lines of the message, which ends at $end. Stops at the empty line, at one without CRLF, or after $most
  ;; lines. Returns how many lines end in CRLF. One that does not is written too; its end is the octet that broke it.
  ;; $shift is added to all offsets written.
  (func (export "lines") (param $end i32) (param $most i32) (param $shift i32) (result i32)
    (local $at i32) (local $line i32) (local $row i32) (local $whole i32) (local $octets v128) (local $bits i32)
    (local $name i32) (local $length i32) (local $value i32)
    (local.set $at (i32.const 65536))
    (local.set $row (i32.const 8192))
    ;; Makes every search find an end.
    (i32.store8 (local.get $end) (i32.const 13))
    (loop $next_line
      (if
        (i32.or
          (i32.eq (i32.load8_u (local.get $at)) (i32.const 13))
          (i32.eq (local.get $whole) (local.get $most)))
        (then (return (local.get $whole))))

      ;; The name: the token characters at the beginning of the line. 255 = no name, or no colon after it.
      (local.set $line (local.get $at))
      (loop $in_name
        (local.set $octets (v128.load (local.get $at)))
        (local.set $bits (call $no_token (local.get $octets)))
        (if (i32.eqz (local.get $bits))
          (then
            (local.set $at (i32.add (local.get $at) (i32.const 16)))
            (br $in_name))))
      (local.set $at (i32.add (local.get $at) (i32.ctz (local.get $bits))))
      (local.set $length (i32.sub (local.get $at) (local.get $line)))
      (local.set $name (i32.const 0))
      (if (i32.eqz (local.get $length)) (then (local.set $name (i32.const 255))))
      (if (i32.lt_u (i32.sub (local.get $length) (i32.const 1)) (i32.const 15))
        (then (local.set $name (call $number (local.get $octets) (local.get $line) (local.get $at)))))
      (loop $before_colon
        (if (call $is_space (i32.load8_u (local.get $at)))
          (then
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $before_colon))))
      (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 58))
        (then (local.set $at (i32.add (local.get $at) (i32.const 1))))
        (else (local.set $name (i32.const 255))))
      (i32.store offset=0 (local.get $row) (local.get $name))
      (local.set $value (local.get $at))

      ;; The end of the line: CRLF without SP or HT after it. Those would continue the line (RFC 3261 7.3.1).
      (loop $in_line
        (local.set $bits (call $line_break (v128.load (local.get $at))))
        (if (i32.eqz (local.get $bits))
          (then
            (local.set $at (i32.add (local.get $at) (i32.const 16)))
            (br $in_line)))
        (local.set $at (i32.add (local.get $at) (i32.ctz (local.get $bits))))
        (if
          (i32.or
            (i32.ne (i32.load16_u (local.get $at)) (i32.const 0x0a0d))
            (i32.ge_u (i32.add (local.get $at) (i32.const 1)) (local.get $end)))
          (then
            (i32.store offset=16 (local.get $row) (i32.add (local.get $at) (local.get $shift)))
            (return (local.get $whole))))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (br_if $in_line (call $is_space (i32.load8_u (local.get $at)))))
      (i32.store offset=16 (local.get $row) (i32.add (local.get $at) (local.get $shift)))

      (if (local.get $name)
        (then (call $value (local.get $value) (i32.sub (local.get $at) (i32.const 2)) (local.get $row) (local.get $shift))))

      (local.set $row (i32.add (local.get $row) (i32.const 20)))
      (local.set $whole (i32.add (local.get $whole) (i32.const 1)))
      (br $next_line))
    (unreachable)))
