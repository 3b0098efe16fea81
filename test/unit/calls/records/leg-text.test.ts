// The text of a leg's message with another Contact.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_LEG_TEXT } from '../../../../src/calls/records/call-record.ts';
import { withContact } from '../../../../src/calls/records/leg-text.ts';

const lines = (...all: readonly string[]): string => `${all.join('\r\n')}\r\n`;

test('a new Contact replaces the old one, in its short form, folded, and on several lines', () => {
  const before = lines(
    'SIP/2.0 200 OK',
    'm: <sip:a@192.0.2.1>,',
    ' <sip:b@192.0.2.1>',
    'CSeq: 1 INVITE',
    'CONTACT : *',
  );
  assert.equal(
    withContact(before, '<sip:new@192.0.2.2>;x=1'),
    lines('SIP/2.0 200 OK', 'CSeq: 1 INVITE', 'Contact: <sip:new@192.0.2.2>;x=1'),
  );
});

test('a text that would be too long for a record gets no new Contact', () => {
  const before = lines('SIP/2.0 200 OK', `To: ${'x'.repeat(MAX_LEG_TEXT - 100)}`);
  assert.equal(withContact(before, '<sip:new@192.0.2.2>')?.endsWith('Contact: <sip:new@192.0.2.2>\r\n'), true);
  assert.equal(withContact(before, `<sip:${'n'.repeat(100)}@192.0.2.2>`), undefined);
});
