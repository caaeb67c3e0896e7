"""librdkafka's mock Kafka cluster: one broker, in memory. Commands by line: topic NAME PARTITIONS | down | up."""
import ctypes
import sys

kafka = ctypes.CDLL("librdkafka.so.1")
PRODUCER = 0
BROKER = 1


def declare(name, result, *arguments):
    function = getattr(kafka, name)
    function.restype = result
    function.argtypes = arguments
    return function


pointer = ctypes.c_void_p
new = declare("rd_kafka_new", pointer, ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t)
new_cluster = declare("rd_kafka_mock_cluster_new", pointer, pointer, ctypes.c_int)
bootstraps = declare("rd_kafka_mock_cluster_bootstraps", ctypes.c_char_p, pointer)
create_topic = declare("rd_kafka_mock_topic_create", ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
set_down = declare("rd_kafka_mock_broker_set_down", ctypes.c_int, pointer, ctypes.c_int32)
set_up = declare("rd_kafka_mock_broker_set_up", ctypes.c_int, pointer, ctypes.c_int32)

reason = ctypes.create_string_buffer(512)
handle = new(PRODUCER, None, reason, len(reason))
if not handle:
    sys.exit(reason.value.decode())
cluster = new_cluster(handle, 1)
print(bootstraps(cluster).decode(), flush=True)
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "topic":
        print(create_topic(cluster, arguments[0].encode(), int(arguments[1]), 1), flush=True)
    elif command == "down":
        print(set_down(cluster, BROKER), flush=True)
    elif command == "up":
        print(set_up(cluster, BROKER), flush=True)
