"""A PIV card written from the standards alone, to judge this project's host code and its virtual card by.

It shares no line and no assumption with either: its own TLV, its own APDU parsing, its own state. It is strict, which
real cards often aren't: what SP 800-73-4 or ISO/IEC 7816 doesn't allow, it refuses. What it is beyond the standard is
its `personality`, a row of data for each kind of card.

    tlv           BER-TLV of ISO/IEC 7816-4, minimal and definite lengths only
    command       a command APDU of ISO/IEC 7816-3, cases 1 to 4, short and extended
    keys          key pairs and block ciphers of SP 800-78-4, and the ones Yubico added
    personality   what differs between kinds of cards
    card          transport, security status and the commands of SP 800-73-4, part 2
    authenticate  GENERAL AUTHENTICATE, the largest of them
    vendor        the commands that Yubico documents and other makers have taken over
"""
