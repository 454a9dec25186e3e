"""Every error that crosses a boundary or reaches a person: one table, one code for each cause.

The tree of exceptions::

    InlayError            a cause of the table, with the fields that its text names
    └── DecodeError       a frame or message that isn't one; names the path

A peer gets ``code``, a number for JSON-RPC, and the fields; a person gets what happened, why, and what to do
next. Neither ever gets the text of an exception from below.
"""

from __future__ import annotations

import re
import string
from typing import Final, NamedTuple


class Cause(NamedTuple):
    """One row of the table.

    Attributes:
        code: the name on the wire.
        number: JSON-RPC error number; -32768…-32000 are JSON-RPC's own, ours are 1000 and up.
        happened: what happened, for a person. ``{field}`` is filled in from the error's fields.
        why: why it happened.
        next_step: what to do now.
        page: whether the web page may be told (a page never learns more about the machine than it must).
    """

    code: str
    number: int
    happened: str
    why: str
    next_step: str
    page: bool = True


_ROWS: Final = (
    # Frames and messages
    Cause("frame_not_json", -32700, "A message could not be read.", "It is not valid JSON.",
          "Update Inlay or the portal: the two don't speak the same language."),
    Cause("frame_invalid", -32600, "A message could not be read.", "It breaks the protocol at {path}.",
          "Update Inlay or the portal: the two don't speak the same language."),
    Cause("method_unknown", -32601, "The other side asked for something this version can't do.",
          "The method is not known here.", "Update Inlay or the portal."),
    Cause("params_invalid", -32602, "A message could not be used.", "It breaks the protocol at {path}.",
          "Update Inlay or the portal: the two don't speak the same language."),
    Cause("internal", -32603, "Something went wrong inside Inlay.", "This is a fault in Inlay, not yours.",
          "Try again; if it comes back, send the log to support. Nothing was left half done."),
    Cause("frame_too_large", 1001, "A message was refused.", "It is larger than {limit} bytes.",
          "Update Inlay or the portal."),
    Cause("frame_too_deep", 1002, "A message was refused.", "It is nested deeper than {limit} levels.",
          "Update Inlay or the portal."),
    Cause("wrong_state", 1003, "A message came at the wrong moment.", "The request {method} is not possible in state {state}.",
          "Start again from the page."),
    Cause("version_unsupported", 1004, "Inlay and the portal have no protocol version in common.",
          "Supported here: {supported}.", "Update Inlay, or ask the portal's support to update it."),
    Cause("rate_limited", 1005, "Too many requests.", "A limit for this page or address was reached.",
          "Wait a minute, then try again."),
    Cause("timeout", 1006, "An answer did not come in time.", "The other side was silent for {seconds} s.",
          "Try again; if it comes back, check the network."),
    Cause("not_authenticated", 1007, "A request was refused.", "It came without a valid session ticket.",
          "Reload the page and try again."),
    # Link and code
    Cause("link_too_long", 1101, "This link can't be opened.",
          "The link is longer than any link a portal makes.", "Go back to the page and start again."),
    Cause("link_wrong_scheme", 1102, "This link can't be opened.", "The link does not begin with inlay:.",
          "Go back to the page and start again."),
    Cause("link_malformed", 1103, "This link can't be opened.",
          "The link holds something other than a portal's name and a code.",
          "Go back to the page and start again. If you did not click anything, somebody else made this link."),
    Cause("link_bad_portal", 1104, "This link can't be opened.",
          "The link does not name a portal as host or host:port.", "Go back to the page and start again."),
    Cause("link_bad_code", 1105, "This code can't be used.", "It is not one that a portal makes.",
          "Compare it with the page, or go back to the page and start again."),
    Cause("code_unknown", 1106, "This code can't be used.",
          "It was never given out, is older than it may be, or was used already.",
          "Go back to the page and click Open Inlay again."),
    Cause("code_expired", 1107, "This code is too old.", "A code can be used for {seconds} seconds.",
          "Go back to the page and click Open Inlay again."),
    Cause("code_used", 1108, "This code was used on another device.", "A code works once.",
          "If that was not you, cancel on the page and tell your support."),
    # Trust
    Cause("portal_unknown", 1201, "Inlay does not know this portal.", "The portal {portal} is not in the trust store.",
          "Ask your support whether to trust it. They can add it with: inlay trust add https://{portal}"),
    Cause("portal_forbidden", 1202, "This portal can't be added.",
          "Policy on this machine allows an administrator only to add portals.", "Ask your support."),
    Cause("portal_unreachable", 1203, "The portal can't be reached.", "No connection to {portal}: {cause}.",
          "Check the network, then go back to the page and try again."),
    Cause("portal_tls_untrusted", 1204, "The portal's certificate is not trusted.",
          "The TLS certificate of {portal} was not issued by an authority this machine trusts.",
          "Don't go on. Tell your support: the network may be reading along."),
    Cause("keyset_invalid", 1205, "The portal could not be verified.",
          "Its keys are not signed by the root key that this machine trusts.",
          "Don't go on. Tell your support: the portal was set up anew, or somebody else answers in its place."),
    Cause("keyset_expired", 1206, "The portal could not be verified.", "Its key set is out of date.",
          "Tell the portal's support."),
    Cause("keyset_rolled_back", 1207, "The portal could not be verified.",
          "It offers an older key set than before.", "Don't go on. Tell your support."),
    Cause("portal_proof_invalid", 1208, "The portal could not be verified.",
          "It could not prove that it holds its own key.", "Don't go on. Tell your support."),
    Cause("fingerprint_mismatch", 1209, "The portal was not added.",
          "Its fingerprint is not the one given.", "Compare with the portal's help page; if they differ, don't go on."),
    Cause("confirmation_required", 1210, "The portal was not added.",
          "There is no terminal to ask for confirmation.", "Give the fingerprint with --fingerprint."),
    Cause("clock_wrong", 1211, "This computer's clock is wrong.",
          "It differs from the portal's by more than {hours} hours.", "Set the clock, then try again."),
    # Orders
    Cause("order_signature_invalid", 1301, "The order was refused.", "Its signature is not the portal's.",
          "Tell your support. Nothing was changed."),
    Cause("order_algorithm_refused", 1302, "The order was refused.",
          "It is signed in a way that Inlay does not accept.", "Tell your support. Nothing was changed."),
    Cause("order_wrong_audience", 1303, "The order was refused.", "It is not meant for Inlay.",
          "Tell your support. Nothing was changed."),
    Cause("order_wrong_issuer", 1304, "The order was refused.", "It comes from another portal.",
          "Tell your support. Nothing was changed."),
    Cause("order_wrong_origin", 1305, "The order was refused.",
          "It was started on another web page than the one that opened Inlay.",
          "Go back to the page and start again. Nothing was changed."),
    Cause("order_wrong_device", 1306, "The order was refused.", "It was made out to another device.",
          "Go back to the page and start again. Nothing was changed."),
    Cause("order_wrong_nonce", 1307, "The order was refused.", "It answers another request than this one.",
          "Go back to the page and start again. Nothing was changed."),
    Cause("order_expired", 1308, "The order was refused.", "It is no longer valid, or not yet.",
          "Check this computer's clock, then go back to the page and start again."),
    Cause("order_replayed", 1309, "The order was refused.", "It was carried out before.",
          "Go back to the page and start again."),
    Cause("order_malformed", 1310, "The order was refused.", "It breaks the protocol at {path}.",
          "Update Inlay, or tell the portal's support."),
    Cause("message_signature_invalid", 1311, "The order was ended.", "A message was altered on its way.",
          "Start again from the page; if it comes back, tell your support."),
    Cause("message_wrong_sequence", 1312, "The order was ended.",
          "A message was lost, repeated or out of turn.", "Start again from the page."),
    Cause("message_unexpected", 1313, "The order was ended.", "A message came that has no place in this step.",
          "Update Inlay, or tell the portal's support."),
    Cause("order_unknown", 1314, "The order is not known.", "The portal has no such order for this device.",
          "Start again from the page."),
    Cause("order_undone", 1315, "The order was undone.", "It took longer than allowed, or was cancelled.",
          "Start again from the page. Nothing was left behind."),
    Cause("order_busy", 1316, "Inlay is busy.", "Another order is being carried out.",
          "Finish or cancel it, then try again."),
    Cause("order_interrupted", 1317, "The order was ended.", "Inlay was stopped in the middle of it.",
          "Start again from the page. Nothing was left behind."),
    Cause("journal_unusable", 1318, "Inlay can't keep its journal.", "The file was {cause}.",
          "Send the log to support: without a journal no order is begun."),
    # The person
    Cause("user_cancelled", 1401, "You cancelled.", "The window was closed or Cancel was chosen.",
          "Start again whenever you like, where you started before. Nothing was left behind."),
    Cause("cancelled_at_portal", 1402, "Cancelled in the portal.", "Cancel was chosen on the page.",
          "Start again from the page whenever you like. Nothing was left behind."),
    Cause("number_wrong", 1403, "The number was wrong three times.",
          "The page did not get the number that Inlay showed.",
          "If you did not start this yourself, tell your support. Otherwise start again from the page."),
    Cause("no_display", 1404, "Inlay can't ask you anything.", "There is no screen and no terminal to use.",
          "Run the command from a desktop session or a terminal; for a web page, inlay open or inlay code."),
    Cause("window_failed", 1405, "Inlay's window failed.", "The window's process ended by itself.",
          "Try again; if it comes back, send the log to support."),
    Cause("user_timeout", 1406, "Nobody answered.", "The window waited for {seconds} s.",
          "Start again from the page."),
    Cause("binding_refused", 1407, "The order was refused.",
          "The browser that finished it is not the browser that began it.",
          "If you did not start this yourself, tell your support. Otherwise start again from the page."),
    # Virtual card
    Cause("algorithm_unsupported", 1501, "The card can't be made.",
          "The key store on this machine can't make {algorithm} keys.", "Ask your support: the policy must allow another."),
    Cause("storage_refused", 1502, "The card can't be made.",
          "This machine can protect keys at level {level} only, and the portal's policy asks for more.",
          "Ask your support."),
    Cause("keystore_locked", 1503, "The system's key store is locked.", "It opens when you log in or unlock it.",
          "Unlock it (for example the login keyring), then try again."),
    Cause("keystore_missing", 1504, "There is no system key store.",
          "No Secret Service answers in this session.", "Install and start one, for example gnome-keyring."),
    Cause("pin_policy_unsatisfiable", 1505, "No PIN can satisfy the rules.",
          "The PIN rules contradict each other or ask for more than 8 characters.", "Tell the portal's support."),
    Cause("card_write_failed", 1506, "The card could not be written.", "The disk refused: {cause}.",
          "Make room on the disk or check its rights, then start again from the page."),
    Cause("card_check_failed", 1507, "The card is not what was ordered.",
          "What was read back differs in slot {slot}.", "Start again from the page; tell your support if it comes back."),
    Cause("card_unknown", 1508, "There is no such card.", "No virtual card {card} on this machine.",
          "The command inlay cards lists the cards."),
    Cause("recovered_key_invalid", 1509, "A key from the archive can't be used.",
          "It does not fit its certificate in slot {slot}.", "Tell the portal's support. Nothing was left behind."),
    Cause("card_damaged", 1510, "A virtual card on this machine can't be used.",
          "The file of card {card} was damaged or changed.",
          "Get a new virtual card from the portal; inlay cards lists the cards."),
    Cause("card_version", 1511, "A virtual card on this machine can't be used.",
          "The file of card {card} was written by another version of Inlay ({found}; this one reads {supported}).",
          "Update Inlay."),
    Cause("device_secret_lost", 1512, "The virtual cards on this machine can't be used.",
          "The secret in the system's key store that protects them is gone or was replaced.",
          "Restore the key store. If that can't be done, run inlay start-over, then get a new virtual card."),
    Cause("pin_wrong", 1521, "The PIN is wrong.", "The card did not accept it; tries left: {tries}.",
          "Type it again with care. If you don't know it, unblock the card with its PUK: inlay cards unblock"),
    Cause("pin_blocked", 1522, "The PIN is blocked.", "A wrong PIN was typed too many times in a row.",
          "Unblock the card with its PUK: inlay cards unblock. If you don't have the PUK, ask the portal's support."),
    Cause("puk_wrong", 1523, "The PUK is wrong.", "The card did not accept it; tries left: {tries}.",
          "Compare it with what you wrote down, or with what the portal's support told you, then type it again with care."),
    Cause("puk_blocked", 1524, "This card can't be unblocked any more.",
          "A wrong PUK was typed too many times in a row.",
          "Get a new virtual card from the portal, then delete this one: inlay cards delete"),
    Cause("card_not_active", 1525, "The card can't be used yet.", "It is still being made.",
          "Wait for the window that makes it, or cancel there. After a restart Inlay removes such a card by itself."),
    Cause("card_ambiguous", 1526, "It is not clear which card is meant.", "That name fits {count} cards.",
          "Name it by its serial number, which inlay cards lists."),
    Cause("no_card", 1527, "There is no card to do that with.", "You have no virtual card on this machine yet.",
          "Get one at your portal: Get virtual smart card."),
    Cause("pin_refused", 1529, "This PIN can't be used.", "It breaks the rules for PINs of this card.",
          "Start again, and choose one that keeps the rules. Nothing was changed, and no try was spent."),
    Cause("card_elsewhere", 1530, "The card is not on this computer.",
          "The order is for the card with the GUID {guid}; the cards here are others.",
          "Do it on the computer that the card was made on: the portal names it under Cards. Nothing was changed."),
    Cause("card_of_other_portal", 1531, "The order was refused.", "The card was ordered by another portal than this one.",
          "Use the page of the portal that the card came from. Nothing was changed."),
    Cause("pin_changed_anyway", 1532, "The PIN is changed, though the order was ended.",
          "It was ended in the moment in which the card took the new PIN.",
          "Use the new PIN. Nothing else was changed."),
    Cause("encoding_unsupported", 1533, "The card can't be encoded like this.",
          "The order asks for {what}, which this Inlay can't do.", "Update Inlay, or tell the portal's support."),
    Cause("agent_busy", 1540, "Inlay was not stopped.", "It is at work: {what}.",
          "Finish or cancel that first. To stop anyway: inlay agent --stop --now. What isn't finished is undone then.",
          page=False),
    Cause("card_of_other_device", 1541, "A virtual card on this machine can't be used.",
          "The file of card {card} belongs to another machine or user, or to a secret that was given up.",
          "Where it was made it works. For this machine, get a new virtual card from the portal."),
    Cause("secret_file_refused", 1543, "The virtual cards on this machine can't be used.",
          "The secret that protects them lies in a file, which this machine's policy forbids or other users can read.",
          "Ask your support: policy decides, or the rights of that file have to be set right.", page=False),
    Cause("nothing_lost", 1542, "Nothing was put aside.", "The secret that protects this machine's cards is there.",
          "If a card can't be used, inlay cards says why.", page=False),
    Cause("puk_not_kept", 1560, "The portal doesn't have this card's PUK.",
          "It was shown to its owner once, when the card was made.",
          "Whoever wrote it down can unblock the card. Without it, a new card is needed."),
    # PC/SC
    Cause("pcsc_no_service", 1601, "No program can see smart cards now.", "The PC/SC service (pcscd) is not running.",
          "Install or start it: sudo systemctl start pcscd.socket", page=False),
    Cause("pcsc_no_virtual_reader", 1602, "The virtual card is not visible to other programs.",
          "There is no virtual reader (vpcd) on this machine.", "Install the package vsmartcard-vpcd.", page=False),
    Cause("pcsc_no_free_slot", 1603, "The virtual card is not visible to other programs.",
          "All {count} virtual readers are taken: {own} by your own programs, {others} by others.",
          "Take another virtual card out, or have an administrator add readers: it comes up when one is free.", page=False),
    Cause("pcsc_foreign_card", 1604, "The virtual card was taken out of its reader.",
          "Another program's card answers there.", "Find the program that uses the virtual reader; tell your support.",
          page=False),
    Cause("pcsc_failed", 1605, "A card reader did not do what was asked.", "PC/SC answered {cause}.",
          "Take the card out and put it in again; if it comes back, restart the PC/SC service.", page=False),
    Cause("pcsc_card_removed", 1606, "The card is gone.", "It was taken out of the reader.",
          "Put it in again and start again from the page."),
    Cause("pcsc_refused", 1607, "You may not use smart cards here.",
          "The system's policy (polkit) refused access to the PC/SC service.",
          "Log in at this machine itself, or have an administrator allow org.debian.pcsc-lite.access_pcsc.", page=False),
    Cause("pcsc_sharing", 1608, "The card is in use.", "Another program keeps it for itself.",
          "Close the other program that uses the card, then try again."),
    Cause("pcsc_card_mute", 1609, "The card does not answer.", "It is in the reader, and it is silent.",
          "Take it out, see that it is the right way round and clean, and put it in again."),
    Cause("pcsc_card_reset", 1610, "The card was interrupted.",
          "Another program reset it, so what you had proved to it is gone.", "Try again; close other card programs first."),
    # The person's session
    Cause("session_locked", 1611, "The virtual card is out of its reader.", "Your screen is locked.",
          "Unlock the screen: the card comes back by itself.", page=False),
    Cause("session_inactive", 1612, "The virtual card is out of its reader.",
          "Another session is in front of this computer.",
          "Switch back to yours: the card comes back by itself.", page=False),
    Cause("session_ended", 1613, "The virtual card is out of its reader.", "You are logged out.",
          "Log in: the card comes back by itself.", page=False),
    Cause("session_leaving", 1614, "The virtual card is out of its reader.",
          "This computer is going to sleep or being shut down.",
          "It comes back by itself when the computer is awake and you are there.", page=False),
    Cause("session_unwatched", 1615, "Virtual cards stay in their readers while the screen is locked.",
          "The system's log-in service (logind) {cause}.",
          "When you leave, take the cards out by ending the agent: inlay agent --stop", page=False),
    # Physical cards
    Cause("card_not_supported", 1901, "This card can't be used.",
          "It does not answer in any way that Inlay knows (ATR {atr}).",
          "Run inlay doctor: it says what was seen, and how an administrator adds the card."),
    Cause("card_answer_malformed", 1902, "The card gave an answer that can't be read.", "It was the answer to {command}.",
          "Take the card out and put it in again; if it comes back, the card or its reader is faulty."),
    Cause("card_refused", 1903, "The card refused.", "It answered {command} with {status}.",
          "Tell your support; what the card said is part of this message."),
    Cause("card_pin_wrong", 1904, "The PIN is wrong.", "The card did not accept it; tries left: {tries}.",
          "Type it again with care: after the last try the PIN is blocked."),
    Cause("card_pin_blocked", 1905, "The PIN is blocked.", "It was wrong too often.",
          "Unblock it with the PUK, or ask your support."),
    Cause("card_puk_wrong", 1906, "The PUK is wrong.", "The card did not accept it; tries left: {tries}.",
          "Compare it with the letter: after the last try the card has to be encoded anew."),
    Cause("card_puk_blocked", 1907, "The PUK is blocked.", "It was wrong too often.",
          "The card has to be encoded anew: ask your support."),
    Cause("card_pin_needed", 1908, "The card wants the PIN first.", "It takes no {command} without.", "Start again from the page."),
    Cause("card_pin_form", 1909, "The card does not take this PIN or PUK.", "Its length or characters are not what the card allows.",
          "Choose another: 6 to 8 digits work on every card."),
    Cause("card_management_wrong", 1910, "The card did not accept the portal's key.",
          "Its management key is another. Nothing was changed.", "Ask your support: the card belongs to another system, or was encoded elsewhere."),
    Cause("card_management_needed", 1911, "The card wants the portal's key first.", "It takes no {command} without.",
          "Start again from the page; tell your support if it comes back."),
    Cause("card_management_slow", 1912, "The portal answered the card too late.",
          "The card's question has to be answered within {seconds} s, and {tries} tries were not.",
          "Check the network, then start again from the page. Nothing was changed."),
    Cause("card_algorithm_missing", 1913, "The card can't do what was ordered.", "It has no {algorithm}.",
          "Ask your support: the order must name another algorithm. Nothing was changed."),
    Cause("card_full", 1914, "The card is full.", "There is no room for what was to be written by {command}.",
          "Ask your support; what was there before is there again."),
    Cause("card_object_too_large", 1915, "The card can't hold this certificate.", "It has {size} bytes.",
          "Ask your support for a smaller certificate. Nothing was changed."),
    Cause("card_slot_missing", 1916, "The card can't do what was ordered.", "It has no place {slot}.",
          "Ask your support: the order must name another place. Nothing was changed."),
    Cause("card_feature_missing", 1917, "The card can't do what was ordered.", "It does not know {command}.",
          "Ask your support. Nothing was changed."),
    Cause("card_key_missing", 1918, "There is no such key on the card.", "The place {slot} is empty.",
          "Start again from the page; tell your support if it comes back."),
    Cause("card_attestation_invalid", 1919, "The card could not prove where its key comes from.",
          "Its statement is not what was ordered: {check}.", "Don't go on. Tell your support."),
    Cause("card_other", 1920, "Another card is in the reader.", "It is not the one that this is about.",
          "Put the right card in. Nothing was written to this one."),
    # readers with a PIN pad
    Cause("pad_missing", 1660, "The PIN can't be typed at the reader.", "The reader has no keys for it.",
          "Use a reader with a PIN pad, or have the portal allow the PIN in Inlay's window."),
    Cause("pad_timeout", 1661, "No PIN was typed.", "The reader waited for its keys in vain.",
          "Start again and type the PIN at the reader. No try was spent."),
    Cause("pad_cancelled", 1662, "It was cancelled.", "Somebody pressed Cancel at the reader.",
          "Start again if you want to go on. No try was spent."),
    Cause("pad_not_repeated", 1663, "The PIN was not changed.", "The two new PINs that were typed differ.",
          "Start again. No try was spent."),
    Cause("pad_length", 1664, "The PIN was not taken.", "It is too short or too long.",
          "Start again with a PIN of the length that the portal asks for. No try was spent."),
    Cause("pad_refused", 1665, "The PIN can't be typed at the reader.", "The reader does not know how to ask for this card's PIN.",
          "Use another reader, or have the portal allow the PIN in Inlay's window."),
    Cause("pad_too_small", 1666, "The PIN can't be typed at the reader.",
          "No PIN fits both: the shortest has {shortest} digits, the longest {longest}.",
          "Use another reader, or have the portal allow the PIN in Inlay's window."),
    # cards through a vendor's PKCS#11 module
    Cause("pkcs11_module_missing", 1640, "A card can't be reached.", "The module {module} can't be loaded.",
          "Have an administrator install it, or correct its path in Inlay's card map.", page=False),
    Cause("pkcs11_module_crashed", 1641, "A card did not do what was asked.",
          "The module {module} of the card's maker crashed in {call}.",
          "Try again. If it comes back, update the module or tell its maker.", page=False),
    Cause("pkcs11_module_hung", 1642, "A card did not do what was asked.",
          "The module {module} of the card's maker gave no answer to {call} for {seconds} seconds.",
          "Take the card out, put it in again and try again. If it comes back, update the module or tell its maker.",
          page=False),
    Cause("pkcs11_failed", 1643, "A card did not do what was asked.", "The module {module} answered {number} to {call}.",
          "Take the card out, put it in again and try again. If it comes back, tell your support.", page=False),
    Cause("pkcs11_device", 1644, "A card did not do what was asked.", "The module {module} reports a broken card or reader in {call}.",
          "Take the card out, clean its contacts and try again; try another reader.", page=False),
    Cause("pkcs11_pin_expired", 1646, "The PIN has expired.", "The card wants a new one first.",
          "Change the PIN of the card, then try again."),
    Cause("pkcs11_pin_not_set", 1647, "The card has no PIN yet.", "It was never given one, or was erased.",
          "Have the card encoded by your support."),
    Cause("pkcs11_foreign_token", 1648, "This card can't be used.", "The module that is configured for it does not know it.",
          "Have an administrator correct Inlay's card map.", page=False),
    Cause("pkcs11_write_protected", 1649, "Nothing can be written to this card.", "It is write-protected.",
          "Use another card."),
    Cause("pkcs11_pin_wrong", 1650, "The PIN is wrong.", "The card did not accept it. {left}",
          "Type it again with care. If you don't know it, ask your support to unblock the card."),
    Cause("pkcs11_token_missing", 1656, "The card is not there.", "The module {module} sees no card {serial}.",
          "Put the right card into the reader.", page=False),
    Cause("agent_starting", 1616, "The virtual card is out of its reader.", "Inlay has just been started.",
          "Wait a moment: the card comes by itself.", page=False),
    # Portal
    Cause("ca_refused", 1701, "The certificate authority refused.", "It did not issue the certificate for {purpose}.",
          "Tell the portal's support. No card was left behind."),
    Cause("request_invalid", 1702, "The portal refused the key.", "The request for slot {slot} does not prove its key.",
          "Start again from the page; tell your support if it comes back."),
    Cause("proof_invalid", 1703, "The portal did not accept the card.", "The key in slot {slot} did not prove itself.",
          "Start again from the page; tell your support if it comes back."),
    Cause("user_not_active", 1704, "This can't be done now.", "Your account is {state}; it must be active.",
          "Ask your support."),
    Cause("approval_refused", 1705, "This was not agreed to.", "The second person who has to agree to it refused.",
          "Ask that person, or your support, for the reason."),
    Cause("descriptor_invalid", 1706, "An object could not be read.", "Its descriptor is not one that this portal makes.",
          "Tell your support; the portal's log names the process."),
    Cause("recovery_not_approved", 1707, "The encryption keys can't be recovered yet.",
          "Two persons have to agree to it first, and no agreement is open for this account.",
          "Ask your support to start Recover archived keys for you, then try again."),
    Cause("recovery_request_expired", 1708, "This was not agreed to in time.",
          "A request to recover keys waits for a limited time only.", "Start Recover archived keys anew."),
    Cause("relation_unknown", 1709, "Two objects could not be related.", "This portal has no relation type {relation}.",
          "Tell your support: an encoding description or the portal's configuration has to be put right."),
    Cause("relation_without_card", 1710, "The task was not begun.",
          "Its certificates have to be related to a card, and the process is about no card.", "Tell the portal's support."),
    Cause("nothing_to_renew", 1711, "There is nothing to renew.",
          "The card has no certificate for authentication or signature.", "Get a new virtual card instead."),
    Cause("card_ended", 1712, "The card can't be worked on any more.", "The portal has it as {state}.",
          "Get a new virtual card from the portal."),
    Cause("puk_not_in_escrow", 1713, "The PIN can't be set.", "The portal has no PUK for this card.",
          "Unblock the card with its PUK on its own computer, or get a new virtual card."),
    Cause("keys_unavailable", 1714, "The portal can't sign now.", "The module that holds its keys doesn't answer.",
          "Wait a minute, then try again; if it stays, tell the portal's support. Nothing was lost."),
    # Loopback
    Cause("origin_refused", 1801, "The page was refused.", "It does not belong to a portal that Inlay trusts.",
          "Use the portal's own page."),
    Cause("port_unavailable", 1802, "Web pages can't reach Inlay directly.",
          "All of its ports are taken: {holder}.", "Links still work. Close the other program to have the direct way back.",
          page=False),
)  # fmt: skip

TABLE: Final[dict[str, Cause]] = {row.code: row for row in _ROWS}


class InlayError(Exception):
    """An error of the table.

    Attributes:
        code: key of ``TABLE``.
        fields: values for the text's placeholders; strings and numbers only, never secrets.
    """

    def __init__(self, code: str, **fields: str | int) -> None:
        if code not in TABLE:
            raise KeyError(code)
        super().__init__(code)
        self.code = code
        self.fields = fields

    @property
    def cause(self) -> Cause:
        """The error's row of the table."""
        return TABLE[self.code]

    @property
    def happened(self) -> str:
        """What happened, with the fields filled in."""
        return _fill(self.cause.happened, self.fields)

    @property
    def why(self) -> str:
        """Why it happened, with the fields filled in."""
        return _fill(self.cause.why, self.fields)

    @property
    def next_step(self) -> str:
        """What to do now, with the fields filled in."""
        return _fill(self.cause.next_step, self.fields)

    def __str__(self) -> str:
        return f"{self.happened} {self.why} {self.next_step}"


class DecodeError(InlayError):
    """A frame or message that isn't one.

    Attributes:
        path: where, as in ``$.params.keys[2].slot``.
    """

    def __init__(self, code: str, path: str = "$", **fields: str | int) -> None:
        super().__init__(code, path=path, **fields)
        self.path = path


FIELD_FORMS: Final = {
    "check": "chain|date|firmware|key|policy|serial|slot",
    "command": "[A-Z0-9 ]{1,24}",
    "status": "[0-9A-F]{4}",
    "algorithm": "[A-Z0-9-]{1,12}(, [A-Z0-9-]{1,12}){0,3}",
    "guid": "[0-9a-f]{32}",
    "level": "tpm|keystore|file|none",
    "method": "[a-z_]{1,24}",
    "path": r"\$([.\[]\w{1,24}\]?){0,8}",
    "purpose": "authentication|signature|encryption",
    "slot": "[89][0-9A-F]",
    "state": "[a-z_]{1,16}",
    "what": "a card by the driver (piv|pkcs11)|the step [a-z_]{1,16}|the PIN entry [a-z]{1,8} [a-z]{1,8}",
    "supported": "[0-9]{1,5}(, [0-9]{1,5}){0,7}",
}
"""Text that a peer may put into our sentences, by the field's name (whole match; the page's client has them, too):
words of a closed kind, never a phrase."""
MAX_FIELD_NUMBER: Final = 1_000_000_000


def from_wire(code: str, fields: dict[str, str | int]) -> InlayError:
    """Build the error that a peer names; an unknown code becomes ``internal``.

    Numbers are kept, and texts of the form that their field has; any other text is dropped and shown as ``?``: a
    peer selects our sentences, and writes none.
    """
    if code not in TABLE:
        return InlayError("internal")
    return InlayError(code, **{name: value for name, value in fields.items() if _has_form(name, value)})


def _has_form(name: str, value: str | int) -> bool:
    if isinstance(value, int):
        return 0 <= value < MAX_FIELD_NUMBER
    form = FIELD_FORMS.get(name)
    return form is not None and re.fullmatch(form, value, re.ASCII) is not None


def placeholders(code: str) -> frozenset[str]:
    """The fields that the texts of a row name."""
    row = TABLE[code]
    return frozenset(name for text in (row.happened, row.why, row.next_step) for name in _named(text))


def _named(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _fill(text: str, fields: dict[str, str | int]) -> str:
    return text.format_map({name: fields.get(name, "?") for name in _named(text)})
