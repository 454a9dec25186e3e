// A card of several is ready: the page goes on to the next one by itself, as its button does.

document.getElementById('next-card').requestSubmit();
