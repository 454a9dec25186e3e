/* A reader with a PIN pad, for pcscd: everything that it is asked goes to a Unix socket, where a test answers.
 *
 * Frames to the test: one byte that says what (below), four bytes of length, the data. From the test: one byte (0 is
 * success, 1: there is no card, 2: the reader was unplugged), four bytes of length, the data. The two features are announced here, as PC/SC part 10 has them.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <PCSC/ifdhandler.h>
#include <PCSC/reader.h>

#define VERIFY_CODE 0x42330006u
#define MODIFY_CODE 0x42330007u
#define PROPERTIES_CODE 0x42330012u

static char path[108];
static int test = -1;

static int whole(int (*step)(int, void *, size_t), void *data, size_t length)
{
	uint8_t *at = data;
	while (length > 0) {
		int done = step(test, at, length);
		if (done <= 0)
			return 0;
		at += done;
		length -= done;
	}
	return 1;
}

static int receive(int from, void *data, size_t length) { return (int)recv(from, data, length, 0); }
static int transmit(int to, void *data, size_t length) { return (int)send(to, data, length, MSG_NOSIGNAL); }

static int connected(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (test >= 0)
		return 1;
	test = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(address.sun_path, path);
	if (connect(test, (struct sockaddr *)&address, sizeof address) == 0)
		return 1;
	close(test);
	test = -1;
	return 0;
}

/* Ask the test; -1 when there is none, else its first byte. */
static int ask(uint8_t what, const void *data, uint32_t length, uint8_t *answer, DWORD *room)
{
	uint8_t head[5] = { what };
	uint32_t size = htonl(length);
	uint8_t rest[4096];
	if (!connected())
		return -1;
	memcpy(head + 1, &size, 4);
	if (!whole(transmit, head, 5) || !whole(transmit, (void *)data, length) || !whole(receive, head, 5))
		goto gone;
	memcpy(&size, head + 1, 4);
	size = ntohl(size);
	if (size > sizeof rest || !whole(receive, rest, size))
		goto gone;
	if (answer && room) {
		if (size > *room)
			size = *room;
		memcpy(answer, rest, size);
		*room = size;
	}
	return head[0];
gone:
	close(test);
	test = -1;
	return -1;
}

static RESPONSECODE response(int status)
{
	return status == 0 ? IFD_SUCCESS : status == 2 ? IFD_NO_SUCH_DEVICE : IFD_ICC_NOT_PRESENT;
}

RESPONSECODE IFDHCreateChannelByName(DWORD lun, LPSTR name)
{
	DWORD none = 0;
	(void)lun;
	snprintf(path, sizeof path, "%s", name);
	return ask('C', "", 0, NULL, &none) == 0 ? IFD_SUCCESS : IFD_COMMUNICATION_ERROR;
}

RESPONSECODE IFDHCreateChannel(DWORD lun, DWORD channel) { (void)lun; (void)channel; return IFD_COMMUNICATION_ERROR; }

RESPONSECODE IFDHCloseChannel(DWORD lun)
{
	(void)lun;
	if (test >= 0)
		close(test);
	test = -1;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHGetCapabilities(DWORD lun, DWORD tag, PDWORD length, PUCHAR value)
{
	(void)lun;
	switch (tag) {
	case TAG_IFD_SLOTS_NUMBER:
	case TAG_IFD_SIMULTANEOUS_ACCESS:
		*value = 1;
		*length = 1;
		return IFD_SUCCESS;
	case TAG_IFD_ATR:
		return ask('A', "", 0, value, length) == 0 ? IFD_SUCCESS : IFD_ICC_NOT_PRESENT;
	default:
		return IFD_ERROR_TAG;
	}
}

RESPONSECODE IFDHSetCapabilities(DWORD lun, DWORD tag, DWORD length, PUCHAR value)
{
	(void)lun; (void)tag; (void)length; (void)value;
	return IFD_NOT_SUPPORTED;
}

RESPONSECODE IFDHSetProtocolParameters(DWORD lun, DWORD protocol, UCHAR flags, UCHAR a, UCHAR b, UCHAR c)
{
	(void)lun; (void)protocol; (void)flags; (void)a; (void)b; (void)c;
	return IFD_SUCCESS;
}

RESPONSECODE IFDHPowerICC(DWORD lun, DWORD action, PUCHAR atr, PDWORD length)
{
	DWORD none = 0;
	(void)lun;
	if (action == IFD_POWER_DOWN) {
		*length = 0;
		ask('F', "", 0, NULL, &none);
		return IFD_SUCCESS;
	}
	*length = MAX_ATR_SIZE;
	return ask(action == IFD_RESET ? 'R' : 'O', "", 0, atr, length) == 0 ? IFD_SUCCESS : IFD_ERROR_POWER_ACTION;
}

RESPONSECODE IFDHTransmitToICC(DWORD lun, SCARD_IO_HEADER send_pci, PUCHAR command, DWORD size, PUCHAR answer,
	PDWORD length, PSCARD_IO_HEADER receive_pci)
{
	(void)lun; (void)send_pci; (void)receive_pci;
	int status = ask('T', command, size, answer, length);
	if (status != 0)
		*length = 0;
	return response(status);
}

static DWORD feature(PUCHAR answer, uint8_t tag, uint32_t code)
{
	code = htonl(code);
	answer[0] = tag;
	answer[1] = 4;
	memcpy(answer + 2, &code, 4);
	return 6;
}

RESPONSECODE IFDHControl(DWORD lun, DWORD code, PUCHAR data, DWORD size, PUCHAR answer, DWORD room, LPDWORD length)
{
	uint8_t what;
	(void)lun;
	*length = 0;
	if (code == CM_IOCTL_GET_FEATURE_REQUEST) {
		if (room < 18)
			return IFD_ERROR_INSUFFICIENT_BUFFER;
		*length = feature(answer, FEATURE_VERIFY_PIN_DIRECT, VERIFY_CODE);
		*length += feature(answer + *length, FEATURE_MODIFY_PIN_DIRECT, MODIFY_CODE);
		*length += feature(answer + *length, FEATURE_GET_TLV_PROPERTIES, PROPERTIES_CODE);
		return IFD_SUCCESS;
	}
	what = code == VERIFY_CODE ? 'V' : code == MODIFY_CODE ? 'M' : code == PROPERTIES_CODE ? 'P' : 0;
	if (!what)
		return IFD_ERROR_NOT_SUPPORTED;
	*length = room;
	int status = ask(what, data, size, answer, length);
	if (status != 0)
		*length = 0;
	return response(status);
}

RESPONSECODE IFDHICCPresence(DWORD lun)
{
	(void)lun;
	DWORD none = 0;
	int status = ask('?', "", 0, NULL, &none);
	return status == 0 ? IFD_ICC_PRESENT : response(status);
}
